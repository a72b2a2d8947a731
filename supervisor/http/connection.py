"""One client's connection, with the limits that aiohttp's own has not: time and size of a head, time of a write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from supervisor.http.answers import HttpError, error_answer

SILENT_SECONDS = 60.0
"""For the first byte: browsers open connections before they need them."""
HEAD_SECONDS = 15.0
"""From the first byte of a request's head to its last; nginx gives 60 s, Apache 20-40 s."""
IDLE_SECONDS = 620.0
"""An idle connection is kept longer than proxies keep theirs (Google's: 600 s), so that it is the proxy who closes it:
a request that meets a close is lost. Where connections run out, idle ones make room first."""
STALLED_SECONDS = 90.0
"""A client that takes nothing of what is written for so long is gone, or means harm."""
LINGER_SECONDS = 3.0
"""For the rest of a body that nobody wants, so that the answer is not lost in a reset."""

READ_BYTES = 128 * 1024
"""Of a body, twice as much may wait in memory, and one read of the socket; then the client is no longer read from."""
MAX_LINE_BYTES = 16 * 1024
"""Of the request line."""
MAX_FIELD_BYTES = 16 * 1024
"""Of one header: an Access cookie alone is 2 KiB and may be there several times."""
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 128


class Connection(RequestHandler):
    """aiohttp's connection, bounded in time and size."""

    __slots__ = ("_gone", "_head_bytes", "_head_timer", "_stall_timer", "begun_at", "received")

    def __init__(
        self,
        manager: web.Server,
        gone: Callable[[Connection], None],
        *,
        loop: asyncio.AbstractEventLoop,
        **options: Any,
    ) -> None:
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=LINGER_SECONDS,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_HEADERS,
            read_bufsize=READ_BYTES,
            # Bodies pass as they came.
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]
            **options,
        )
        self._gone = gone
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self.begun_at = 0.0
        self.received = 0
        """Bytes so far: a peer that sends something is not dead, even while its message is not whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.begun_at = self._loop.time()
        self._head_timer = self._loop.call_later(SILENT_SECONDS, self.force_close)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        super().data_received(data)
        if len(self._messages) > 0 and not isinstance(self._messages[-1][0], RawRequestMessage):
            self._break_body()
        if not self.waits_for_head():
            self._head_over()
        elif data:
            # All of it belongs to a head that is not whole yet.
            if self._head_bytes == 0:
                self._head_over()
                self.begun_at = self._loop.time()
                self._head_timer = self._loop.call_later(HEAD_SECONDS, self.force_close)
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._head_over()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        super().connection_lost(exc)
        self._gone(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self._loop.call_later(STALLED_SECONDS, self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def waits_for_head(self) -> bool:
        """Whether no request is being answered or waits for its turn."""
        return not self._messages and (self._waiter is not None or self._request_count == 0)

    def can_make_room(self) -> bool:
        """Whether the connection may be closed without a loss to anybody."""
        transport = self.transport
        return self.waits_for_head() and (transport is None or transport.get_write_buffer_size() == 0)

    def abort(self) -> None:
        """Close at once; what is not written yet is lost."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What never became a request is answered like everything else: JSON, without an echo of what was sent."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        self.logger.debug("bad request: %s", type(exc).__name__)
        if isinstance(exc, LineTooLong):
            error = HttpError(431, "head-too-large", "The request line or a header is too long.")
        elif isinstance(exc, HttpProcessingError):
            error = HttpError(400, "bad-request", "This is no HTTP request that can be read in one way only.")
        else:
            error = HttpError(status, "internal", "The request failed inside the daemon; its log says why.")
        response = error_answer(error)
        response.force_close()
        return response

    def _break_body(self) -> None:
        """Tell whoever reads a body that its framing is broken: aiohttp only queues that as an answer for later."""
        if len(self._messages) > 1:
            payload = self._messages[-2][1]
        elif self._current_request is not None:
            payload = self._current_request.content
        else:
            return
        if not payload.is_eof() and payload.exception() is None:
            payload.set_exception(RequestPayloadError("broken framing"))

    def _head_over(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse_head(self) -> None:
        if self.transport is not None:
            self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n")
        self.force_close()
