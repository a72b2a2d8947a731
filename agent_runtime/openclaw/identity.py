"""How the gateway learns who is asking: its `trusted-proxy` mode, in which it believes the front door's headers.

The gateway's docs (docs/gateway/trusted-proxy-auth.md in its package) say how the headers are read. Its own clients on
loopback, the supervisor's and the command line in the agent's shell, present a password instead.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from agent_runtime.contract import AgentSettings, Caller

PASSWORD_VARIABLE = "OPENCLAW_GATEWAY_PASSWORD"
"""Where the gateway, and its command line, look for the password; it stands in no file."""

USER_HEADER = "x-forwarded-user"
SCOPES_HEADER = "x-openclaw-scopes"

IDENTITY_HEADERS = frozenset(
    {USER_HEADER, SCOPES_HEADER, "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded"}
)

USER_SCOPES = ("operator.read", "operator.write", "operator.approvals", "operator.questions")
"""For chatting: what the gateway itself gives a device that nobody looked at."""
OPERATOR_SCOPES = (*USER_SCOPES, "operator.admin", "operator.pairing")

NOT_LOCAL = "192.0.2.1"
"""Said of a client on this machine: a request that comes through a proxy and claims a loopback address is refused by
the gateway. The address is set aside for documentation (RFC 5737) and nobody's."""


def auth_settings(settings: AgentSettings) -> dict[str, Any]:
    """`gateway.auth`: known operators get their scopes with each connection; a browser is a paired device at once, with
    the scopes of a user, or of an operator where everybody is one."""
    approved = OPERATOR_SCOPES if settings.all_operate else USER_SCOPES
    return {
        "mode": "trusted-proxy",
        "identityScopes": {name: list(OPERATOR_SCOPES) for name in settings.operators},
        "trustedProxy": {
            "userHeader": USER_HEADER,
            "allowLoopback": True,
            "deviceAutoApprove": {"enabled": True, "scopes": list(approved)},
        },
    }


def introduction(caller: Caller) -> Mapping[str, str]:
    """The headers for one request. The scopes are an upper limit, whatever a device was granted once; without a name
    there is no user, and the gateway asks for a credential of its own (a webhook's)."""
    headers = {
        "X-Forwarded-For": _address(caller.address),
        "X-Forwarded-Proto": caller.scheme,
    }
    if caller.host:
        headers["X-Forwarded-Host"] = caller.host
    if caller.name:
        headers["X-Forwarded-User"] = caller.name
        headers["X-OpenClaw-Scopes"] = ",".join(OPERATOR_SCOPES if caller.operator else USER_SCOPES)
    return headers


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return NOT_LOCAL
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return NOT_LOCAL if address.is_loopback or address.is_unspecified else str(address)
