"""The agent's output: by page, and live as server-sent events.

A live reader costs nothing but its place: lines are taken from the ring that is kept anyway, and one that is slower
than the agent is told how many it missed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from aiohttp import web

from supervisor.http.about import About, Answer, Parameter
from supervisor.http.answers import API_HEADERS, HttpError, json_answer
from supervisor.http.api import schemas
from supervisor.http.api.reading import bad, number, query
from supervisor.http.auth import Access
from supervisor.http.endpoints import Endpoints
from supervisor.http.operations import Document, Operations

MAX_LINES = 1000
MAX_STREAMS = 16
MAX_FILTER_CHARACTERS = 200
HEARTBEAT_SECONDS = 15.0
"""Proxies cut what is silent for a minute or more (Cloudflare: 100 s)."""
RETRY_MILLISECONDS = 2000

STREAM_HEADERS = {
    **API_HEADERS,
    "Content-Type": "text/event-stream; charset=utf-8",
    # nginx would keep the lines back until it has a buffer full of them.
    "X-Accel-Buffering": "no",
}


class LogsApi:
    """See the module.

    Args:
        new_life: names this daemon's life; line numbers begin anew with each.
    """

    def __init__(
        self,
        operations: Operations,
        *,
        new_life: Callable[[], str] = lambda: secrets.token_hex(4),
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._operations = operations
        self._life = new_life()
        self._heartbeat_seconds = heartbeat_seconds
        self._streams = 0
        self._closing = asyncio.Event()

    def add_to(self, endpoints: Endpoints) -> None:
        """Add the paths."""
        endpoints.add("GET", "/api/admin/logs", Access.OPERATOR, self.page, PAGE)
        endpoints.add("GET", "/api/admin/logs/stream", Access.OPERATOR, self.stream, STREAM)

    def begin_close(self) -> None:
        """End all streams: the daemon is leaving."""
        self._closing.set()

    async def page(self, request: web.Request) -> web.Response:
        after = number(request, "after", default=0)
        limit = number(request, "limit", default=200, most=MAX_LINES)
        lines = list(self._operations.agent_logs(after, limit))
        return json_answer({"lines": lines, "next": lines[-1].get("number", after) if lines else after})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        wanted = (query(request, "contains") or "").casefold()
        if len(wanted) > MAX_FILTER_CHARACTERS:
            raise bad(f"'contains' is to be a text of at most {MAX_FILTER_CHARACTERS} characters.")
        after = self._resumed(request)
        response = web.StreamResponse(headers=STREAM_HEADERS)
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        if self._streams >= MAX_STREAMS:
            raise HttpError(
                503,
                "too-many-streams",
                f"{MAX_STREAMS} logs are being followed already.",
                hint="close one, or read pages: GET /api/admin/logs",
                headers={"Retry-After": "10"},
            )
        self._streams += 1
        try:
            await response.prepare(request)
            await response.write(f"retry: {RETRY_MILLISECONDS}\n\n".encode())
            async with aclosing(self._events(after, wanted)) as events:
                async for event in events:
                    await response.write(event)
        except ConnectionError:
            pass  # the reader has left
        finally:
            self._streams -= 1
        return response

    def _resumed(self, request: web.Request) -> int:
        """After which line to begin. A browser that reconnects names the last event it saw; of an earlier life, it
        counts for nothing."""
        life, _, text = request.headers.get("Last-Event-ID", "").partition("-")
        if text.isascii() and text.isdigit() and len(text) <= 15 and life == self._life:
            return int(text)
        return number(request, "after", default=0)

    async def _events(self, after: int, wanted: str) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._operations.follow_logs(after)) as lines:
            last = after
            coming = asyncio.ensure_future(anext(lines))
            closing = asyncio.ensure_future(self._closing.wait())
            try:
                while True:
                    await asyncio.wait(
                        {coming, closing}, timeout=self._heartbeat_seconds, return_when=asyncio.FIRST_COMPLETED
                    )
                    if closing.done():
                        yield _event("end", self._id(last), {"reason": "the daemon is stopping"})
                        return
                    if not coming.done():
                        yield f": {self._operations.phase()}\n\n".encode()
                        continue
                    line = coming.result()
                    dropped = line["number"] - last - 1
                    # Before the first line, a gap is what the ring no longer had.
                    if dropped > 0 and last > 0:
                        yield _event("dropped", self._id(line["number"] - 1), {"lines": dropped})
                    last = line["number"]
                    if wanted in str(line["text"]).casefold():
                        yield _event("line", self._id(last), line)
                    coming = asyncio.ensure_future(anext(lines))
            finally:
                for task in (coming, closing):
                    task.cancel()
                await asyncio.wait({coming, closing})

    def _id(self, number: int) -> str:
        return f"{self._life}-{number}"


def _event(kind: str, identity: str, data: Document) -> bytes:
    # JSON has no line breaks of its own, so that the agent's text cannot end an event and begin another.
    return f"event: {kind}\nid: {identity}\ndata: {json.dumps(data)}\n\n".encode()


_LINE = schemas.reference("LogLine")

PAGE = About(
    "The agent's output, page by page.",
    "logs",
    {
        200: Answer(
            "Lines in order; ask for the next ones with `after` = `next`.",
            schemas.of({"lines": {"type": "array", "items": _LINE}, "next": schemas.COUNT}),
        )
    },
    query=(
        Parameter("after", schemas.NUMBER, "Only lines with a number above this."),
        Parameter("limit", schemas.NUMBER, f"How many; 200 without, at most {MAX_LINES}."),
    ),
)
STREAM = About(
    "The agent's output, live, as server-sent events: `line`, `dropped` (how many were missed), `end`.",
    "logs",
    {200: Answer("Events without end; a comment every 15 s.", schemas.TEXT, "text/event-stream")},
    errors=(503,),
    query=(
        Parameter("after", schemas.NUMBER, "Only lines with a number above this; `Last-Event-ID` counts more."),
        Parameter(
            "contains",
            {**schemas.TEXT, "maxLength": MAX_FILTER_CHARACTERS},
            "Only lines with this text in them, upper or lower case.",
        ),
    ),
)
