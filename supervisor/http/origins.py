"""Under which names the front door is reached: what a Host or an Origin header may say."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from supervisor.errors import SettingsError

_DEFAULT_PORTS = {"http": 80, "https": 443}

Place = tuple[str, int | None]
"""A host name in lower case, and a port; None stands for the scheme's default."""


class Origins:
    """The configured public origins, and the loopback names.

    Args:
        public: origins such as `https://claw.example.com`.

    Raises:
        SettingsError: one of them is not an origin.
    """

    def __init__(self, public: Sequence[str] = ()) -> None:
        self._public = frozenset(_public_place(origin) for origin in public)

    def is_own_host(self, host: str) -> bool:
        """Whether a Host header names a loopback address or the host of a public origin."""
        place = _place(f"http://{host}", keep_default=True)
        if place is None:
            return False
        name, _ = place
        return is_loopback_name(name) or any(name == own for _, (own, _) in self._public)

    def is_own_origin(self, origin: str, host: str) -> bool:
        """Whether an Origin header is the front door's own: a public one, or the very host asked for.

        The scheme of the latter does not count: whether TLS ended in front of us cannot be seen from here.
        """
        place = _place(origin)
        if place is None:
            return False
        scheme = origin.partition("://")[0].lower()
        if (scheme, place) in self._public:
            return True
        return place == _place(f"{scheme}://{host}")

    def scheme(self, host: str, origin: str = "") -> str:
        """`https` or `http`, as the browser sees it: as configured for this host, else as its Origin header says."""
        place = _place(f"http://{host}", keep_default=True)
        if place is not None:
            configured = {scheme for scheme, (name, _) in self._public if name == place[0]}
            if len(configured) == 1:
                return configured.pop()
        return "https" if origin.lower().startswith("https://") and self.is_own_origin(origin, host) else "http"


def is_loopback_name(name: str) -> bool:
    """`localhost`, a name below it (RFC 6761), or a loopback address."""
    name = name.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _public_place(origin: str) -> tuple[str, Place]:
    place = _place(origin)
    if place is None:
        raise SettingsError(
            f"{origin!r} is not an origin.", hint="Write it like https://claw.example.com, without a path."
        )
    return origin.partition("://")[0].lower(), place


def _place(origin: str, *, keep_default: bool = False) -> Place | None:
    """Host and port of `scheme://host[:port]`, or None where it is anything else (`null`, a path, a user)."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        return None
    if port == _DEFAULT_PORTS[parts.scheme] and not keep_default:
        port = None
    return parts.hostname.lower().rstrip("."), port
