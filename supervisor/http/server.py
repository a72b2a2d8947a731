"""The front door itself: aiohttp on a socket that is listening already."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Protocol, TypeVar

from aiohttp import HttpVersion10, HttpVersion11, web

from supervisor.errors import MoltinitError
from supervisor.http.answers import HttpError, error_answer
from supervisor.http.api import MAX_BODY_BYTES, Api
from supervisor.http.audit import AuditTrail
from supervisor.http.auth import ANYONE, SAFE_METHODS, Access, Gatekeeper
from supervisor.http.bodies import refuse_expectation
from supervisor.http.bridge import Patience
from supervisor.http.connection import MAX_HEAD_BYTES, Connection
from supervisor.http.early import REQUEST_SECONDS, answer_once, respond
from supervisor.http.endpoints import VISITOR, Endpoints, Handler
from supervisor.http.health import add_health
from supervisor.http.identity import Identity
from supervisor.http.navigation import is_navigation, refusal, without_token
from supervisor.http.operations import Document, Operations
from supervisor.http.paths import OwnPaths, PublicPaths, refuse_unclear
from supervisor.http.proxy import Proxy, wants_websocket
from supervisor.http.reception import Reception, most_connections
from supervisor.http.tasks import Unhurried
from supervisor.http.traffic import Traffic, route_of
from supervisor.http.webhooks import MAX_BODY_BYTES as MAX_WEBHOOK_BYTES
from supervisor.http.webhooks import Webhooks

SHUTDOWN_SECONDS = 3.0

T = TypeVar("T", bound=web.StreamResponse)

_QUIET_PATHS = frozenset({"/livez", "/readyz", "/startupz", "/status", "/metrics", "/sandbox-health", "/api/status"})


class Log(Protocol):
    """The part of a structlog logger that is used here."""

    def debug(self, event: str, **values: Any) -> Any: ...
    def info(self, event: str, **values: Any) -> Any: ...
    def error(self, event: str, **values: Any) -> Any: ...


class FrontDoor:
    """Health, the admin API and the proxy on one port.

    Args:
        public_paths: paths of the agent that everyone may reach (webhooks); see `PublicPaths`.
        identity: see `Proxy`.
        audit: where calls that change something are written down.
        refuse: raises `HttpError` for peers that must not have a path of this kind, whatever they present.
        extend: adds further paths of the front door (the admin page) before the table is closed.
        patience: see `Proxy`.
        traffic: counts what comes through.
        max_connections: None works it out from the process's limit of descriptors.

    Raises:
        SettingsError: a public path covers one of the front door's own.
    """

    def __init__(
        self,
        operations: Operations,
        gatekeeper: Gatekeeper,
        log: Log,
        *,
        public_paths: Sequence[str] = (),
        identity: Identity | None = None,
        audit: AuditTrail | None = None,
        refuse: Callable[[web.Request, Access], None] | None = None,
        extend: Callable[[Endpoints, Unhurried], None] | None = None,
        max_connections: int | None = None,
        patience: Patience | None = None,
        traffic: Traffic | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._operations = operations
        self._traffic = traffic
        self._gatekeeper = gatekeeper
        self._log = log
        self._max_connections = max_connections
        self._monotonic = monotonic
        self._unhurried = Unhurried()
        self._proxy = Proxy(operations, identity=identity, patience=patience)
        self._runner: web.AppRunner | None = None
        self._reception: Reception | None = None
        endpoints = Endpoints(gatekeeper, audit=audit, unhurried=self._unhurried, refuse=refuse)
        add_health(endpoints, operations)
        self._api = Api(operations, self._unhurried)
        self._api.add_to(endpoints)
        if gatekeeper.login is not None:
            gatekeeper.login.add_to(endpoints)
        if extend is not None:
            extend(endpoints, self._unhurried)
        for pattern in ("/api/admin", "/_admin", "/api/admin/{rest:.*}", "/_admin/{rest:.*}"):
            endpoints.own(pattern, Access.OPERATOR)
        self._endpoints = endpoints
        self._own = OwnPaths.of(endpoints.patterns())
        self._webhooks = Webhooks(PublicPaths(public_paths, self._own), monotonic=monotonic)

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket, which is closed by `stop`."""
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        self._endpoints.install(app.router)
        app.router.add_route("*", "/{path:.*}", self._forward, expect_handler=refuse_expectation)
        app.on_response_prepare.append(_hide_server)
        app.on_shutdown.append(self._hang_up)
        await self._proxy.start()
        self._runner = web.AppRunner(
            app,
            # A client that goes away ends the request to the agent, which may be a stream without end.
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        await self._runner.setup()
        server, loop, logger = self._runner.server, asyncio.get_running_loop(), _forwarding(self._log)
        assert server is not None
        self._reception = Reception(
            listener,
            lambda gone: Connection(server, gone, loop=loop, logger=logger),
            self._turn_away,
            limit=self._max_connections or most_connections(),
        )

    async def stop(self) -> None:
        """Stop accepting, close WebSockets with 1012, give requests three seconds, close the socket."""
        if self._reception is not None:
            await self._reception.close()
            self._reception = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._proxy.close()
        await self._unhurried.close()
        await self._gatekeeper.close()

    async def _hang_up(self, app: web.Application) -> None:
        self._proxy.begin_close()
        self._api.begin_close()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if self._webhooks.takes(request.method, request.raw_path, upgrade=wants_websocket(request)):
            # Nobody asks here who it is, but an operator's client may say it all the same.
            spent = self._gatekeeper.spends(request.headers)
            async with self._webhooks.visit():
                return await self._proxy.handle(request, ANYONE, spent=spent, most_bytes=MAX_WEBHOOK_BYTES)
        visitor = await self._gatekeeper.admit(request.method, request.headers, Access.USER, peer=request.remote or "")
        request[VISITOR] = visitor
        if is_navigation(request) and (clean := without_token(request.raw_path)) is not None:
            return web.Response(status=303, headers={"Location": clean, "Cache-Control": "no-store"})
        return await self._proxy.handle(request, visitor)

    async def _turn_away(self, connection: socket.socket) -> None:
        await answer_once(connection, self._busy, seconds=REQUEST_SECONDS)

    def _busy(self, head: bytes) -> bytes:
        return respond(head, self._operations.phase(), self._health, busy=True)

    def _health(self, path: str) -> tuple[int, Document]:
        if path == "/livez":
            return 200, self._operations.liveness()
        ok, document = self._operations.readiness() if path == "/readyz" else self._operations.startup()
        return 200 if ok else 503, document

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        begun = self._monotonic()
        response: web.StreamResponse | None = None
        try:
            upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
            with self._traffic.websocket() if upgrade and self._traffic else nullcontext():
                response = await self._answer(request, handler)
            return response
        finally:
            path = request.raw_path.partition("?")[0]
            status = response.status if response is not None else 499
            if self._traffic is not None:
                self._traffic.http_request(route_of(path), status)
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
            if request.method in ("TRACE", "CONNECT") or request.version not in (HttpVersion10, HttpVersion11):
                # TRACE would show what is added for the agent alone.
                raise HttpError(501, "not-implemented", f"There is no {request.method} of this version here.")
            refuse_unclear(request.raw_path)
            self._own.refuse_lookalike(request.raw_path)
            if sum(len(name) + len(value) + 4 for name, value in request.raw_headers) > MAX_HEAD_BYTES:
                raise HttpError(431, "head-too-large", "The headers are too large together.")
            return _closing(request, await handler(request))
        except HttpError as error:
            if request.writer.output_size > 0:
                return _refusal(request, error)
            login = self._gatekeeper.login
            page = login.instead_of(request, error) if login is not None else None
            return _closing(request, page or refusal(request, error) or error_answer(error))
        except MoltinitError as error:
            return _refusal(request, error)
        except web.HTTPException as error:
            return _refusal(request, HttpError(error.status, "http", error.reason))
        except Exception as error:
            self._log.error("request failed", path=request.path[:200], exc_info=error)
            return _refusal(request, MoltinitError("The request failed inside the daemon; its log says why."))


def _refusal(request: web.Request, error: MoltinitError) -> web.Response:
    if request.writer.output_size > 0:
        # Another answer has begun: a second one in its middle would be taken for a part of it.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError(error.message) from error
    return _closing(request, error_answer(error))


def _closing(request: web.Request, answer: T) -> T:
    """Mark an answer as the connection's last, where nobody knows where the next request begins."""
    waits = "Expect" in request.headers and not request.content.is_eof()
    if (waits or request.content.exception() is not None) and not answer.prepared:
        answer.force_close()
    return answer


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
