"""The broker's server: aiohttp on a loopback socket that is listening already.

Slow to import, like the front door's: what arrives before waits in the socket's queue.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from supervisor.broker.forward import Forwarder
from supervisor.broker.providers import Dialect
from supervisor.broker.refusals import BrokerError

if TYPE_CHECKING:
    from supervisor.broker.browser import BrowserBroker

MAX_HEADER_BYTES = 32 * 1024
SHUTDOWN_SECONDS = 1.0
BROWSER = "/browser"
MAX_CONNECTIONS = 256
"""Each is a descriptor of the daemon, and the agent may open as many as it likes."""


class Log(Protocol):
    """The part of a structlog logger that is used here."""

    def debug(self, event: str, **values: Any) -> Any: ...
    def error(self, event: str, **values: Any) -> Any: ...
    def warning(self, event: str, **values: Any) -> Any: ...


class BrokerServer:
    """Serves the forwarder, and the browser broker where there is one, below `/browser`."""

    def __init__(self, forwarder: Forwarder, browser: BrowserBroker | None, log: Log) -> None:
        self._forwarder = forwarder
        self._browser = browser
        self._log = log
        self._runner: web.ServerRunner | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket, which is closed by `stop`."""
        self._forwarder.start()
        if self._browser is not None:
            self._browser.start()
        server = _Bounded(
            self._answer,
            access_log=None,
            logger=_quiet(),
            # A client that goes away ends the request to the provider, and with it what it costs.
            handler_cancellation=True,
            auto_decompress=False,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Stop accepting, give what runs a second, close the socket."""
        if self._browser is not None:
            await self._browser.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._forwarder.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            path = request.raw_path.partition("?")[0]
            if self._browser is not None and (path == BROWSER or path.startswith(BROWSER + "/")):
                return await self._browser.handle(request)
            return await self._forwarder.handle(request)
        except Exception as error:
            # By its kind alone: a text may quote what was sent.
            self._log.error("broker.failed", error=type(error).__name__, at=_place(error))
            failed = BrokerError(500, "The request failed inside the broker; the daemon's log says where.")
            return web.Response(status=500, body=failed.body(Dialect.OPENAI), headers=failed.headers())


class _Bounded(web.Server):
    """Drops connections beyond `MAX_CONNECTIONS`."""

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace else ""


def _quiet() -> logging.Logger:
    """aiohttp's own logger gets only what never became a request, with the bytes of it in the text: not for a log."""
    logger = logging.Logger("broker")
    logger.addHandler(logging.NullHandler())
    return logger
