"""What the agent is told of whoever the front door let in."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web
from multidict import CIMultiDict

from agent_runtime.contract import Caller
from supervisor.http import headers as passing
from supervisor.http.auth import ANYONE, Visitor
from supervisor.http.origins import Origins


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

    def to_agent(self, request: web.Request, visitor: Visitor) -> CIMultiDict[str]:
        """The headers of a request as the agent gets them."""
        host = request.headers.get("Host", "")
        caller = Caller(
            name="" if visitor is ANYONE else visitor.name,
            operator=visitor.operator,
            address=visitor.address or request.remote or "",
            host=host,
            scheme=self._origins.scheme(host, request.headers.get("Origin", "")),
        )
        return passing.to_agent(
            request.headers,
            spent_authorization=visitor.spent_authorization,
            introduction=self._introduce(caller),
            identity_headers=self._identity_headers,
        )
