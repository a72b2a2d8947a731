"""The front door itself: aiohttp on a socket that is listening already."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aiohttp import web

from supervisor.errors import MoltinitError
from supervisor.http.answers import HttpError, error_answer
from supervisor.http.api import MAX_BODY_BYTES, Api
from supervisor.http.auth import ANYONE, SAFE_METHODS, Access, Gatekeeper
from supervisor.http.endpoints import VISITOR, Endpoints, Handler
from supervisor.http.health import add_health
from supervisor.http.identity import Identity
from supervisor.http.navigation import is_navigation, refusal, without_token
from supervisor.http.operations import Operations
from supervisor.http.paths import is_public, refuse_unclear
from supervisor.http.proxy import Proxy
from supervisor.http.tasks import Unhurried

MAX_HEADER_BYTES = 16 * 1024
"""Of the request line and of one header: an Access cookie alone is 2 KiB and may be there several times."""

SHUTDOWN_SECONDS = 3.0

_QUIET_PATHS = frozenset({"/livez", "/readyz", "/startupz", "/status", "/metrics", "/sandbox-health", "/api/status"})


class Log(Protocol):
    """The part of a structlog logger that is used here."""

    def debug(self, event: str, **values: Any) -> Any: ...
    def info(self, event: str, **values: Any) -> Any: ...
    def error(self, event: str, **values: Any) -> Any: ...


class FrontDoor:
    """Health, the admin API and the proxy on one port.

    Args:
        public_paths: paths of the agent that everyone may reach (webhooks), each with what is below it.
        identity: see `Proxy`.
        extend: adds further paths of the front door (the admin page) before the table is closed.
    """

    def __init__(
        self,
        operations: Operations,
        gatekeeper: Gatekeeper,
        log: Log,
        *,
        public_paths: Sequence[str] = (),
        identity: Identity | None = None,
        extend: Callable[[Endpoints, Unhurried], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gatekeeper = gatekeeper
        self._log = log
        self._public_paths = tuple(public_paths)
        self._monotonic = monotonic
        self._unhurried = Unhurried()
        self._proxy = Proxy(operations, identity=identity)
        self._runner: web.AppRunner | None = None
        endpoints = Endpoints(gatekeeper)
        add_health(endpoints, operations)
        Api(operations, self._unhurried).add_to(endpoints)
        if gatekeeper.login is not None:
            gatekeeper.login.add_to(endpoints)
        if extend is not None:
            extend(endpoints, self._unhurried)
        for pattern in ("/api/admin", "/_admin", "/api/admin/{rest:.*}", "/_admin/{rest:.*}"):
            endpoints.own(pattern, Access.OPERATOR)
        self._endpoints = endpoints

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket, which is closed by `stop`."""
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        self._endpoints.install(app.router)
        app.router.add_route("*", "/{path:.*}", self._forward)
        app.on_response_prepare.append(_hide_server)
        app.on_shutdown.append(self._hang_up)
        await self._proxy.start()
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_forwarding(self._log),
            # A client that goes away ends the request to the agent, which may be a stream without end.
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_SECONDS,
            # Bodies pass as they came.
            auto_decompress=False,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Stop accepting, close WebSockets with 1012, give requests three seconds, close the socket."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._proxy.close()
        await self._unhurried.close()
        await self._gatekeeper.close()

    async def _hang_up(self, app: web.Application) -> None:
        self._proxy.begin_close()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        public = is_public(request.raw_path, self._public_paths)
        access = Access.OPEN if public else Access.USER
        visitor = await self._gatekeeper.admit(request.method, request.headers, access, peer=request.remote or "")
        request[VISITOR] = visitor
        if not public and is_navigation(request) and (clean := without_token(request.raw_path)) is not None:
            return web.Response(status=303, headers={"Location": clean, "Cache-Control": "no-store"})
        return await self._proxy.handle(request, ANYONE if public else visitor)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        begun = self._monotonic()
        response: web.StreamResponse | None = None
        try:
            response = await self._answer(request, handler)
            return response
        finally:
            path = request.raw_path.partition("?")[0]
            status = response.status if response is not None else 499
            # A page is dozens of requests: what went well and changed nothing is worth a line to those who debug.
            plain = request.method in SAFE_METHODS and (status < 400 or path in _QUIET_PATHS)
            write = self._log.debug if plain else self._log.info
            write(
                "request",
                method=request.method,
                path=path[:200],
                status=status,
                seconds=round(self._monotonic() - begun, 3),
            )

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            refuse_unclear(request.raw_path)
            return await handler(request)
        except HttpError as error:
            login = self._gatekeeper.login
            page = login.instead_of(request, error) if login is not None else None
            return page or refusal(request, error) or error_answer(error)
        except MoltinitError as error:
            return error_answer(error)
        except web.HTTPException as error:
            return error_answer(HttpError(error.status, "http", error.reason))
        except Exception as error:
            self._log.error("request failed", path=request.path[:200], exc_info=error)
            return error_answer(MoltinitError("The request failed inside the daemon; its log says why."))


class _Forward(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.debug("bad request", detail=record.getMessage())


def _forwarding(log: Log) -> logging.Logger:
    """aiohttp's own logger gets only what never became a request: anybody can cause that, so no traceback."""
    logger = logging.Logger("http")
    logger.addHandler(_Forward(log))
    return logger


async def _hide_server(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.popall("Server", None)
