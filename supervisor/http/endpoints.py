"""The front door's own paths: who each is for, and which methods it has. None of them is ever proxied."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from supervisor.errors import MoltinitError
from supervisor.http.about import About
from supervisor.http.answers import HttpError, status_of
from supervisor.http.audit import UNKNOWN, AuditTrail
from supervisor.http.auth import ANYONE, Access, Gatekeeper, Visitor
from supervisor.http.own_page import SAFE_METHODS, require_own_page
from supervisor.http.tasks import Unhurried

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

VISITOR = web.RequestKey("visitor", Visitor)
"""Under this key a request carries who asks."""
PARAMETERS: web.RequestKey[dict[str, Any]] = web.RequestKey("parameters", dict)
"""Under this key a request carries what the audit log may tell of its body and query; handlers fill it."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path, as `Endpoints.routes` lists them."""

    method: str
    path: str
    access: Access
    about: About | None


@dataclass(slots=True)
class _Endpoint:
    access: Access
    handlers: dict[str, Handler] = field(default_factory=dict)
    abouts: dict[str, About] = field(default_factory=dict)


class Endpoints:
    """A table of paths, filled by `add`, put into an application by `install`. `refuse` is asked before the gatekeeper.

    Every path carries its access level: there is no rule beside the table that could disagree with it.
    """

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        *,
        audit: AuditTrail | None = None,
        unhurried: Unhurried | None = None,
        refuse: Callable[[web.Request, Access], None] | None = None,
    ) -> None:
        self._gatekeeper = gatekeeper
        self._audit = audit
        self._unhurried = unhurried or Unhurried()
        self._refuse = refuse or (lambda request, access: None)
        self._table: dict[str, _Endpoint] = {}

    def add(self, method: str, path: str, access: Access, handler: Handler, about: About | None = None) -> None:
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
        if about is not None:
            endpoint.abouts[method] = about

    def routes(self) -> Iterator[Route]:
        """What was added, in that order; not what is only owned."""
        for path, endpoint in self._table.items():
            for method in endpoint.handlers:
                if method != "HEAD":
                    yield Route(method, path, endpoint.access, endpoint.abouts.get(method))

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
            changes = request.method not in SAFE_METHODS
            about = endpoint.abouts.get("GET" if request.method == "HEAD" else request.method)
            told = changes or (about is not None and about.audited)
            # Of what only reads, a refusal counts where a key was offered: somebody tries keys.
            tried = endpoint.access is not Access.OPEN and "Authorization" in request.headers
            call = _Call(self._audit if told or tried else None, request, path, refusals_only=not told)
            if changes:
                # What was begun goes on, and is written down, when the client has gone.
                return await self._unhurried.run(call.follow(self._admitted(call, endpoint)))
            return await call.follow(self._admitted(call, endpoint))

        return dispatch

    async def _admitted(self, call: _Call, endpoint: _Endpoint) -> web.StreamResponse:
        request = call.request
        self._refuse(request, endpoint.access)
        # A handler that recognises somebody afterwards (the login page) says so in the same place.
        request[VISITOR] = await self._gatekeeper.admit(
            request.method, request.headers, endpoint.access, peer=request.remote or ""
        )
        if endpoint.access is not Access.OPEN:
            require_own_page(request.method, request.headers)
        if not endpoint.handlers:
            raise HttpError(404, "not-found", "There is nothing under this path.")
        handler = endpoint.handlers.get(request.method)
        if handler is None:
            allowed = ", ".join(sorted(endpoint.handlers))
            raise HttpError(405, "method-not-allowed", f"This path knows {allowed}.", headers={"Allow": allowed})
        return await handler(request)


def template(path: str) -> str:
    """A route's path without the patterns of its parameters."""
    return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", path)


class _Call:
    """One request on its way, and its entry in the audit log."""

    def __init__(self, audit: AuditTrail | None, request: web.Request, route: str, *, refusals_only: bool) -> None:
        self.request = request
        self._audit = audit
        self._route = route
        self._refusals_only = refusals_only
        self._begun = time.monotonic()
        request[PARAMETERS] = {}

    async def follow(self, work: Awaitable[web.StreamResponse]) -> web.StreamResponse:
        """Carry it out, and write down what became of it."""
        try:
            response = await work
        except MoltinitError as error:
            self._note(status_of(error), error.code)
            raise
        except web.HTTPException as error:
            self._note(error.status, "http")
            raise
        except asyncio.CancelledError:
            self._note(499, "cancelled")
            raise
        except Exception:
            self._note(500, "internal")
            raise
        self._note(response.status, str(self.request[PARAMETERS].pop("code", "")))
        return response

    def _note(self, status: int, code: str) -> None:
        if self._audit is None or (self._refusals_only and status not in (401, 403)):
            return
        request = self.request
        told: dict[str, Any] = request[PARAMETERS]
        visitor = request.get(VISITOR)
        self._audit.record(
            who=visitor.name if visitor is not None else UNKNOWN,
            known=visitor is not None and visitor is not ANYONE,
            peer=request.remote or "",
            method=request.method,
            route=template(self._route),
            parameters={**request.match_info, **told},
            status=status,
            code=code,
            seconds=time.monotonic() - self._begun,
        )
