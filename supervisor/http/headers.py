"""Which headers pass the front door, and which end there.

The gateway believes the front door about who is asking, so nothing that a client says about itself may reach it: what
speaks of identity is dropped first, then the front door's own word is put in its place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from multidict import CIMultiDict, CIMultiDictProxy

from supervisor.hop_by_hop import HOP_BY_HOP
from supervisor.http.cookies import cookie_name, crumbs
from supervisor.http.sessions import PLAIN_NAME, SECURE_NAME

_IDENTITY = frozenset(
    {
        "forwarded",
        "via",
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "true-client-ip",
        "client-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-remote-user",
        "remote-user",
        "expect",
    }
)
_IDENTITY_PREFIXES = (
    "x-forwarded",
    "x-original-forwarded",
    "cf-",
    "tailscale-",
    "x-auth-request-",
    "sec-websocket-",
)
_OWN_COOKIES = frozenset({"CF_Authorization", "CF_AppSession", "CF_Binding", PLAIN_NAME, SECURE_NAME})
"""Credentials for the front door; the agent has no business with them."""


def to_agent(
    headers: CIMultiDictProxy[str],
    *,
    spent_authorization: bool,
    introduction: Mapping[str, str],
    identity_headers: Collection[str] = (),
) -> CIMultiDict[str]:
    """The headers of a request as the agent gets them.

    Args:
        spent_authorization: the Authorization header was for the front door, and ends here.
        introduction: what the front door says of who is asking.
        identity_headers: further names, in lower case, by which this agent believes who is asking.
    """
    passed = _end_to_end(headers)
    for name in set(passed):
        if _speaks_of_identity(name, identity_headers):
            passed.popall(name, None)
    if spent_authorization:
        passed.popall("Authorization", None)
    _strip_own_cookies(passed)
    for name, value in introduction.items():
        passed[name] = value
    return passed


def to_client(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The headers of an answer as the client gets them."""
    passed = _end_to_end(headers)
    if "Set-Cookie" in passed:
        # The agent cannot sign anybody out, or in as somebody else.
        cookies = [value for value in passed.popall("Set-Cookie") if _set_name(value) not in _OWN_COOKIES]
        passed.extend([("Set-Cookie", value) for value in cookies])
    if passed.get("Content-Type", "").startswith("text/event-stream"):
        passed.setdefault("X-Accel-Buffering", "no")  # another proxy before us must not collect events
    return passed


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for value in headers.getall("Connection", []) for name in value.split(",")}
    passed = CIMultiDict(headers)
    for name in {name.lower() for name in headers}:
        # Some programs read `transfer_encoding` as `transfer-encoding`, so it is as if it were.
        plain = name.replace("_", "-") if "_" in name else name
        disguised = plain != name and plain in ("host", "content-length")
        if plain in HOP_BY_HOP or disguised or (name in named and name not in ("host", "content-length")):
            passed.popall(name)
    return passed


def _set_name(cookie: str) -> str:
    # A cookie without a name (`=name=value`) is sent back as `name=value`.
    return cookie_name(cookie.partition(";")[0].lstrip("= \t"))


def _speaks_of_identity(name: str, further: Collection[str]) -> bool:
    # Some programs read `x_real_ip` as `x-real-ip`.
    plain = name.lower().replace("_", "-")
    return plain in _IDENTITY or plain in further or plain.startswith(_IDENTITY_PREFIXES)


def _strip_own_cookies(headers: CIMultiDict[str]) -> None:
    kept = [crumb for crumb in crumbs(CIMultiDictProxy(headers)) if cookie_name(crumb) not in _OWN_COOKIES]
    headers.popall("Cookie", None)
    if kept:
        headers["Cookie"] = "; ".join(kept)
