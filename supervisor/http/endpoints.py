"""The front door's own paths: who each is for, and which methods it has. None of them is ever proxied."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from supervisor.http.answers import HttpError
from supervisor.http.auth import Access, Gatekeeper, Visitor

VISITOR = web.RequestKey("visitor", Visitor)
"""Where a request carries who is asking."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class _Endpoint:
    access: Access
    handlers: dict[str, Handler] = field(default_factory=dict)


class Endpoints:
    """A table of paths, filled by `add`, put into an application by `install`.

    Every path carries its access level: there is no rule beside the table that could disagree with it.
    """

    def __init__(self, gatekeeper: Gatekeeper) -> None:
        self._gatekeeper = gatekeeper
        self._table: dict[str, _Endpoint] = {}

    def add(self, method: str, path: str, access: Access, handler: Handler) -> None:
        """Add one method of one path; `{name}` stands for a segment. GET answers HEAD, too.

        Raises:
            ValueError: the path has another access level already.
        """
        endpoint = self._table.setdefault(path, _Endpoint(access))
        if endpoint.access is not access:
            raise ValueError(f"{path} is for {endpoint.access.value}, not for {access.value}")
        endpoint.handlers[method] = handler
        if method == "GET":
            endpoint.handlers["HEAD"] = handler

    def own(self, path: str, access: Access) -> None:
        """Claim all paths of a pattern that no other entry answers: they are 404 here, and nobody else's."""
        self._table.setdefault(path, _Endpoint(access))

    def patterns(self) -> tuple[str, ...]:
        """All paths of the table, as a router takes them."""
        return tuple(self._table)

    def install(self, router: web.UrlDispatcher) -> None:
        """Register the paths, in the order in which they were added."""
        for path, endpoint in self._table.items():
            router.add_route("*", path, self._dispatcher(path, endpoint))

    def _dispatcher(self, path: str, endpoint: _Endpoint) -> Handler:
        async def dispatch(request: web.Request) -> web.StreamResponse:
            request[VISITOR] = await self._gatekeeper.admit(
                request.method, request.headers, endpoint.access, peer=request.remote or ""
            )
            if not endpoint.handlers:
                raise HttpError(404, "not-found", "There is nothing under this path.")
            handler = endpoint.handlers.get(request.method)
            if handler is None:
                allowed = ", ".join(sorted(endpoint.handlers))
                raise HttpError(405, "method-not-allowed", f"This path knows {allowed}.", headers={"Allow": allowed})
            return await handler(request)

        return dispatch
