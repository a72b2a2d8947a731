"""What the agent is told of whoever the front door let in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from aiohttp import web
from multidict import CIMultiDict

from agent_runtime.contract import Caller
from supervisor.http import headers as passing
from supervisor.http.auth import ANYONE, Visitor
from supervisor.http.origins import Origins, is_loopback_name


def _nothing(caller: Caller) -> Mapping[str, str]:
    return {}


class Identity:
    """Turns visitors into the headers that the agent understands.

    Args:
        introduce: the agent runtime's; without it the agent is told nothing.
        identity_headers: the agent runtime's.
        public_origins: origins under which people reach the front door.
    """

    def __init__(
        self,
        introduce: Callable[[Caller], Mapping[str, str]] = _nothing,
        identity_headers: frozenset[str] = frozenset(),
        *,
        public_origins: tuple[str, ...] = (),
    ) -> None:
        self._introduce = introduce
        self._identity_headers = identity_headers
        self._origins = Origins(public_origins)

    def to_agent(self, request: web.Request, visitor: Visitor, *, spent: bool = False) -> CIMultiDict[str]:
        """The headers of a request as the agent gets them; `spent` as in `Proxy.handle`."""
        host = request.headers.get("Host", "")
        caller = Caller(
            name="" if visitor is ANYONE else visitor.name,
            operator=visitor.operator,
            address=visitor.address or request.remote or "",
            host=host,
            scheme=self._scheme(host, request, visitor),
        )
        return passing.to_agent(
            request.headers,
            spent_authorization=spent or visitor.spent_authorization,
            introduction=self._introduce(caller),
            identity_headers=self._identity_headers,
        )

    def _scheme(self, host: str, request: web.Request, visitor: Visitor) -> str:
        if visitor.via in ("access", "service") and not is_loopback_name(urlsplit(f"//{host}").hostname or ""):
            return "https"  # Cloudflare's edge speaks nothing else to people
        return self._origins.scheme(host, request.headers.get("Origin", ""))
