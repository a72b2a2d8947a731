"""HTTP/1.1 to the agent: one request on one connection, sent as it came, with aiohttp's parser for the answer.

aiohttp's own client does far more (redirects, cookies, pools per host, traces) and costs more than all the rest of a
forwarded request; of its parts, the connection and its parser are used here.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from aiohttp import ClientError, StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy

CONNECT_SECONDS = 5.0
REUSE_SECONDS = 3.0
"""A quiet connection is used again for so long; Node closes its own after 5 s (`server.keepAliveTimeout`)."""
REUSE_ONCE_SECONDS = 1.0
"""And by a request that cannot be repeated: far from the moment at which an agent may close it (gunicorn: 2 s)."""
MAX_IDLE = 32
READ_BYTES = 128 * 1024
"""Of an answer, twice as much may wait in memory; then the agent is no longer read from."""
MAX_FIELD_BYTES = 32 * 1024
MAX_HEADERS = 256

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Address = tuple[str, int]


class AgentUnreachable(Exception):
    """Nobody listens there."""


class AgentBrokeOff(Exception):
    """The agent's connection ended, or what it said is no HTTP; nothing that it said was passed on."""


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """The head of an answer, and its body as it arrives (transfer coding taken off, content coding kept)."""

    status: int
    reason: str
    headers: CIMultiDictProxy[str]
    body: StreamReader


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """A request's head on the wire, bytes that are no UTF-8 included.

    Raises:
        ValueError: something in it would end a line.
    """
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if any(_FORBIDDEN.search(line) for line in lines):
        raise ValueError("a control character in a request's head")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


def sendable(reason: str, headers: CIMultiDict[str]) -> bool:
    """Whether the head of an answer may be passed on; bytes that are no UTF-8 are made Latin-1, which they are."""
    if _FORBIDDEN.search(reason):
        return False
    for name, value in headers.items():
        if _FORBIDDEN.search(value) or _NAME.fullmatch(name) is None:
            return False
    if not all(value.isascii() for value in headers.values()):
        pairs = [(name, _speakable(value)) for name, value in headers.items()]
        headers.clear()
        headers.extend(pairs)
    return True


def _speakable(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


class AgentLine:
    """One connection to the agent, good for one request at a time."""

    def __init__(self, protocol: ResponseHandler, address: Address) -> None:
        self._protocol = protocol
        self.address = address
        self.idle_since = 0.0

    async def exchange(self, head: bytes, *, without_body: bool) -> AgentAnswer:
        """Send a request, its body included; returns the head of the answer.

        Args:
            without_body: the answer has none (HEAD).

        Raises:
            AgentBrokeOff
        """
        self.begin(head, without_body=without_body)
        return await self.answer()

    def begin(self, head: bytes, *, without_body: bool) -> None:
        """Send the head of a request."""
        self._protocol.set_response_params(
            skip_payload=without_body,
            read_until_eof=True,
            auto_decompress=False,
            read_bufsize=READ_BYTES,
            max_line_size=MAX_FIELD_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_HEADERS,
        )
        self._write(head)

    async def send(self, body: AsyncIterator[bytes], *, chunked: bool) -> None:
        """Send a request's body, no faster than the agent takes it. Raises `AgentBrokeOff`."""
        async for piece in body:
            if chunked:
                self._write(b"%x\r\n%b\r\n" % (len(piece), piece))
            else:
                self._write(piece)
            await self._drain()
        if chunked:
            self._write(b"0\r\n\r\n")

    async def answer(self) -> AgentAnswer:
        """The head of the final answer; interim ones (100, 103) are passed over. Raises `AgentBrokeOff`."""
        while True:
            try:
                message, body = await self._protocol.read()
            except (ClientError, HttpProcessingError, OSError) as error:
                raise AgentBrokeOff(type(error).__name__) from error
            if message.code >= 200:
                return AgentAnswer(message.code, message.reason or "", message.headers, body)
            if message.code == 101:
                raise AgentBrokeOff("an upgrade that nobody asked for")

    @property
    def reusable(self) -> bool:
        """Whether the last answer was read to its end, and the agent keeps the connection."""
        return self._protocol.is_connected() and not self._protocol.should_close

    def close(self) -> None:
        """End the connection; what is under way breaks off."""
        self._protocol.abort()

    def _write(self, data: bytes) -> None:
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise AgentBrokeOff("the connection is closed")
        transport.write(data)

    async def _drain(self) -> None:
        if self._protocol.writing_paused:
            try:
                await self._protocol._drain_helper()
            except (ClientError, OSError) as error:
                raise AgentBrokeOff(type(error).__name__) from error


class AgentLines:
    """Opens connections, and keeps a few for a moment: a fresh one costs as much as a small request."""

    def __init__(self) -> None:
        self._idle: deque[AgentLine] = deque()

    async def open(self, address: Address) -> AgentLine:
        """A fresh connection. Raises `AgentUnreachable`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, protocol = await loop.create_connection(lambda: ResponseHandler(loop), *address)
        except (OSError, TimeoutError) as error:
            raise AgentUnreachable(f"{address[0]}:{address[1]}") from error
        return AgentLine(protocol, address)

    def used(self, address: Address, *, within: float) -> AgentLine | None:
        """A connection that was used within so many seconds and is still good, as far as one can know."""
        now = asyncio.get_running_loop().time()
        while self._idle and self._idle[-1].idle_since > now - within:
            line = self._idle.pop()
            if line.address == address and line.reusable:
                return line
            line.close()
        while self._idle and self._idle[0].idle_since <= now - REUSE_SECONDS:
            self._idle.popleft().close()
        return None

    def give_back(self, line: AgentLine) -> None:
        """Keep a connection for the next request, or close it."""
        if not line.reusable or len(self._idle) >= MAX_IDLE:
            line.close()
            return
        line.idle_since = asyncio.get_running_loop().time()
        self._idle.append(line)

    def close(self) -> None:
        """Close those that are kept."""
        while self._idle:
            self._idle.pop().close()
