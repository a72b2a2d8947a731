"""Who may: the three modes of `MOLTINIT_AUTH`, and what holds in each of them against other people's pages.

A gatekeeper sees the method, the headers and the peer's address, nothing else: no secret in a URL can be taken for one.
It names who is asking or raises `HttpError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from multidict import CIMultiDictProxy

from supervisor.clock import Clock, SystemClock
from supervisor.errors import SettingsError
from supervisor.http.answers import HttpError
from supervisor.http.bearers import Bearers
from supervisor.http.origins import Origins, is_loopback_name

if TYPE_CHECKING:
    from supervisor.http.access import AccessRules
    from supervisor.http.login import Login

Headers = CIMultiDictProxy[str]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

OPERATOR = "operator"
"""The name of whoever holds the operator's credential, or sits at the machine."""


class Access(Enum):
    """Who a path is for."""

    OPEN = "open"
    USER = "user"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who is asking.

    Args:
        name: for the audit log and for the agent: an e-mail address, a service's name, `operator`, or `anyone`.
        via: how that is known: `loopback`, `bearer`, `session`, `local`, `access`, `service`; empty for anyone.
        operator: may use the operator's paths.
        address: the client's address where something better than the peer's is known.
        spent_authorization: the Authorization header was meant for the front door.
    """

    name: str
    via: str = ""
    operator: bool = False
    address: str = ""
    spent_authorization: bool = False


ANYONE = Visitor("anyone")


class Gatekeeper(Protocol):
    """Lets a request in or refuses it."""

    @property
    def login(self) -> Login | None:
        """The page at which a browser gets a session, where the mode has one."""
        ...

    async def admit(self, method: str, headers: Headers, access: Access, *, peer: str = "") -> Visitor:
        """Who is asking. Raises `HttpError` with 401, 403, 429 or 503.

        Args:
            peer: the address at the other end of the connection.
        """
        ...

    def spends(self, headers: Headers) -> bool:
        """Whether an Authorization header is for the front door, whoever is asking and for what."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


class LoopbackGatekeeper:
    """Mode `none`: whoever reaches the loopback address may.

    A browser there runs pages from everywhere, so the Host is checked (a name that an attacker points at
    127.0.0.1 is not ours) and so is the Origin.

    Raises:
        SettingsError: the front door is not bound to loopback.
    """

    login: Login | None = None

    def __init__(self, listen_host: str, origins: Origins, bearers: Bearers) -> None:
        if not is_loopback_name(listen_host):
            raise SettingsError(
                f"MOLTINIT_AUTH is none, but MOLTINIT_LISTEN ({listen_host}) is not a loopback address.",
                hint="Set MOLTINIT_OPERATOR_TOKEN, or the Access settings, or listen on 127.0.0.1.",
            )
        self._origins = origins
        self._bearers = bearers

    async def admit(self, method: str, headers: Headers, access: Access, *, peer: str = "") -> Visitor:
        if access is Access.OPEN:
            return ANYONE
        hosts = headers.getall("Host", [])
        if len(hosts) != 1 or not self._origins.is_own_host(hosts[0]):
            raise HttpError(
                403,
                "host-refused",
                "The request's Host header names neither this machine nor a public origin.",
                hint="Open the front door under its loopback address.",
            )
        refuse_cross_site(method, headers, self._origins)
        via = self._bearers.recognise(headers)
        return Visitor(OPERATOR, via or "loopback", operator=True, spent_authorization=self.spends(headers))

    def spends(self, headers: Headers) -> bool:
        return self._bearers.among(headers)

    async def close(self) -> None:
        return None


def refuse_cross_site(method: str, headers: Headers, origins: Origins) -> None:
    """Refuse what a foreign web page may have made a browser send: an unsafe method or a WebSocket upgrade.

    Raises:
        HttpError: 403.
    """
    upgrade = "Upgrade" in headers
    if method in SAFE_METHODS and not upgrade:
        return
    offered = headers.getall("Origin", [])
    if offered:
        refused = len(offered) != 1 or not origins.is_own_origin(offered[0], headers.get("Host", ""))
    else:
        # No Origin: no browser, or an old one; where the browser says whence, it is believed.
        refused = headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
    if refused:
        what = "WebSocket upgrade" if upgrade else f"{method} request"
        raise HttpError(
            403,
            "cross-site",
            f"A {what} from another site is refused.",
            hint="If the site is yours, add its origin to the public origins.",
        )


def require_operator(visitor: Visitor, access: Access) -> Visitor:
    """The visitor, where the path is for him. Raises `HttpError` 403."""
    if access is Access.OPERATOR and not visitor.operator:
        raise HttpError(
            403,
            "operators-only",
            f"This is for operators, and {visitor.name} is none.",
            hint="MOLTINIT_OPERATORS lists them.",
        )
    return visitor


def unauthorized(message: str, *, hint: str) -> HttpError:
    """401, which a browser does not answer with a password box of its own."""
    challenge = {"WWW-Authenticate": 'Bearer realm="moltinit"'}
    return HttpError(401, "unauthorized", message, hint=hint, headers=challenge)


def gatekeeper(
    mode: str,
    *,
    listen_host: str,
    operator_token: str | None,
    public_origins: Sequence[str] = (),
    local_credential: str | None = None,
    access: AccessRules | None = None,
    clock: Clock | None = None,
    on_trouble: Callable[[str], None] = lambda text: None,
) -> Gatekeeper:
    """The gatekeeper of a mode.

    Args:
        mode: `none`, `token` or `access`.
        operator_token: the bearer that counts; in the mode `access`, beside it.
        public_origins: origins (`https://host`) under which people reach the front door.
        local_credential: what the daemon's own commands present; of this life alone.
        access: whose tokens count in the mode `access`.
        on_trouble: told of what keeps the gatekeeper from its work, and an empty text when that is over.

    Raises:
        SettingsError: the mode is unknown, or cannot be used with these settings.
    """
    origins = Origins(public_origins)
    clock = clock or SystemClock()
    if mode == "none":
        return LoopbackGatekeeper(listen_host, origins, Bearers({"local": local_credential}))
    bearers = Bearers({"bearer": operator_token, "local": local_credential})
    if mode == "token":
        from supervisor.http.tokens import TokenGatekeeper

        if not operator_token:
            raise SettingsError("MOLTINIT_AUTH is token, but there is no token.", hint="Set MOLTINIT_OPERATOR_TOKEN.")
        return TokenGatekeeper(operator_token, origins, bearers, now=clock.time, monotonic=clock.monotonic)
    if mode == "access":
        from supervisor.http.access import AccessGatekeeper

        if access is None or not access.audiences:
            raise SettingsError(
                "MOLTINIT_AUTH is access, but the team or the application is not known.",
                hint="Set CF_ACCESS_TEAM_DOMAIN and CF_ACCESS_AUD.",
            )
        return AccessGatekeeper(access, origins, bearers, clock=clock, on_trouble=on_trouble)
    raise SettingsError(f"MOLTINIT_AUTH is {mode!r}.", hint="Use none, token or access.")
