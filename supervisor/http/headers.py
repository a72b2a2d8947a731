"""Which headers pass the front door, and which end there.

The gateway treats whoever reaches it on loopback as a friend, so nothing that a client says about where it
comes from may reach it; and it refuses forwarding headers from a proxy that it was not told of.
"""

from __future__ import annotations

from multidict import CIMultiDict, CIMultiDictProxy

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""RFC 9110, section 7.6.1; they speak of one connection."""

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
_OWN_COOKIES = ("CF_Authorization", "CF_AppSession", "moltinit_session")
"""Credentials for the front door; the agent has no business with them."""


def to_agent(
    headers: CIMultiDictProxy[str], *, spent_authorization: bool, agent_authorization: str | None
) -> CIMultiDict[str]:
    """The headers of a request as the agent gets them.

    Args:
        spent_authorization: the Authorization header was for the front door, and ends here.
        agent_authorization: what the agent gets in its place, or None for nothing.
    """
    passed = _end_to_end(headers)
    for name in set(passed):
        if _speaks_of_identity(name):
            passed.popall(name, None)
    if spent_authorization:
        passed.popall("Authorization", None)
        if agent_authorization is not None:
            passed["Authorization"] = agent_authorization
    _strip_own_cookies(passed)
    return passed


def to_client(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """The headers of an answer as the client gets them."""
    return _end_to_end(headers)


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for value in headers.getall("Connection", []) for name in value.split(",")}
    passed = CIMultiDict(headers)
    for name in {name.lower() for name in headers}:
        if name in _HOP_BY_HOP or (name in named and name not in ("host", "content-length")):
            passed.popall(name)
    return passed


def _speaks_of_identity(name: str) -> bool:
    # Some programs read `x_real_ip` as `x-real-ip`.
    plain = name.lower().replace("_", "-")
    return plain in _IDENTITY or plain.startswith(_IDENTITY_PREFIXES)


def _strip_own_cookies(headers: CIMultiDict[str]) -> None:
    crumbs = [crumb.strip() for value in headers.popall("Cookie", []) for crumb in value.split(";")]
    kept = [crumb for crumb in crumbs if crumb and crumb.partition("=")[0].strip() not in _OWN_COOKIES]
    if kept:
        headers["Cookie"] = "; ".join(kept)
