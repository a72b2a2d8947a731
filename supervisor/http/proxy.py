"""What is not the front door's own goes to the agent's gateway: streamed, never buffered, as it came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from supervisor.http import headers as passing
from supervisor.http import pages
from supervisor.http.agent_line import (
    REUSE_ONCE_SECONDS,
    REUSE_SECONDS,
    Address,
    AgentAnswer,
    AgentBrokeOff,
    AgentLines,
    AgentUnreachable,
    request_head,
    sendable,
)
from supervisor.http.answers import HttpError, error_answer
from supervisor.http.auth import Visitor
from supervisor.http.bodies import body_of, refuse_codings, too_large
from supervisor.http.bridge import MAX_MESSAGE_BYTES, Patience, bridge
from supervisor.http.identity import Identity
from supervisor.http.operations import Operations
from supervisor.straight import straight

CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 2.0

_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})
"""May be sent again where a kept connection turned out to be dead (RFC 9110, section 9.2.2)."""


class Proxy:
    """Forwards requests to `operations.gateway()`.

    Args:
        identity: says to the agent who is asking.
        patience: when a quiet WebSocket is pinged, and given up.
    """

    def __init__(
        self, operations: Operations, *, identity: Identity | None = None, patience: Patience | None = None
    ) -> None:
        self._operations = operations
        self._identity = identity or Identity()
        self._patience = patience or Patience()
        self._lines = AgentLines()
        self._session: aiohttp.ClientSession | None = None
        self._closing = asyncio.Event()

    async def start(self) -> None:
        """Make the client; needs a running event loop."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[straight()],
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )

    def begin_close(self) -> None:
        """Tell every open WebSocket that the service restarts."""
        self._closing.set()

    async def close(self) -> None:
        """Give back the connections."""
        self._closing.set()
        self._lines.close()
        if self._session is not None:
            await self._session.close()

    async def handle(
        self, request: web.Request, visitor: Visitor, *, spent: bool = False, most_bytes: int | None = None
    ) -> web.StreamResponse:
        """Pass one request on. An answer that breaks off is broken off: never ended as if it were whole.

        Args:
            spent: the Authorization header is the front door's, though it was not asked who the visitor is.
            most_bytes: of the request's body; None sets no limit.

        Raises:
            HttpError
        """
        refuse_codings(request)
        if most_bytes is not None and (request.content_length or 0) > most_bytes:
            raise too_large(most_bytes)
        address = self._operations.gateway()
        if address is None or self._session is None:
            return self._unavailable(request)
        headers = self._identity.to_agent(request, visitor, spent=spent)
        if most_bytes is not None:
            headers.popall("Cookie", None)  # a stranger's request must not borrow a browser's session with the agent
        headers.setdefault("Host", f"{address[0]}:{address[1]}")  # HTTP/1.0 may come without
        try:
            if wants_websocket(request):
                return await self._websocket(self._session, request, address, headers)
            return await self._http(request, address, headers, most_bytes)
        except (AgentUnreachable, aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError):
            return self._unavailable(request)
        except aiohttp.WSServerHandshakeError as error:
            raise HttpError(
                error.status if error.status >= 400 else 502,
                "websocket-refused",
                f"The agent refused the WebSocket upgrade with status {error.status}.",
            ) from error
        except (AgentBrokeOff, aiohttp.ClientError) as error:
            raise HttpError(
                502, "agent-broke-off", f"The agent broke off before it answered ({type(error).__name__})."
            ) from error

    async def _http(
        self, request: web.Request, address: Address, headers: CIMultiDict[str], most_bytes: int | None
    ) -> web.StreamResponse:
        body = b""
        if request.body_exists:
            chunked = "Transfer-Encoding" in request.headers
            if not request.content.is_eof() or chunked:
                if chunked:
                    headers["Transfer-Encoding"] = "chunked"
                pieces = body_of(request, most=most_bytes)
                return await self._upload(request, address, _head(request, headers), pieces, chunked=chunked)
            body = await request.content.read()  # it came with its head
        return await self._exchange(request, address, _head(request, headers) + body)

    async def _exchange(self, request: web.Request, address: Address, message: bytes) -> web.StreamResponse:
        without_body, repeatable = request.method == "HEAD", request.method in _REPEATABLE
        line = self._lines.used(address, within=REUSE_SECONDS if repeatable else REUSE_ONCE_SECONDS)
        answer: AgentAnswer | None = None
        try:
            if line is not None:
                try:
                    answer = await line.exchange(message, without_body=without_body)
                except AgentBrokeOff:
                    if not repeatable:
                        raise
                    line.close()  # it was closed while it lay idle
            if line is None or answer is None:
                line = await self._lines.open(address)
                answer = await line.exchange(message, without_body=without_body)
            response, whole = await _relay(request, answer)
        except BaseException:
            if line is not None:
                line.close()
            raise
        self._lines.give_back(line) if whole else line.close()
        return response

    async def _upload(
        self, request: web.Request, address: Address, head: bytes, body: AsyncIterator[bytes], *, chunked: bool
    ) -> web.StreamResponse:
        line = await self._lines.open(address)
        loop = asyncio.get_running_loop()
        tasks: list[asyncio.Task[Any]] = []
        clean = False
        try:
            line.begin(head, without_body=False)
            sending = loop.create_task(line.send(body, chunked=chunked))
            answering = loop.create_task(line.answer())
            tasks += [sending, answering]
            sending.add_done_callback(lambda _: line.close() if _failed(sending) else None)
            # An agent may answer before it has read everything, and then read on or not.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if _failed(sending) and not _answered(answering):
                sending.result()
            response, whole = await _relay(request, await answering)
            clean = whole and sending.done() and not sending.cancelled() and sending.exception() is None
            return response
        finally:
            for task in tasks:
                task.cancel()
            # Their errors are told by what the client was answered.
            await asyncio.gather(*tasks, return_exceptions=True)
            self._lines.give_back(line) if clean else line.close()

    async def _websocket(
        self, session: aiohttp.ClientSession, request: web.Request, address: Address, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        handshake = web.WebSocketResponse()
        if request.body_exists or "Content-Length" in headers or not handshake.can_prepare(request).ok:
            # Found out before the agent is troubled: a body would be the first thing that it reads of the frames.
            raise HttpError(
                400,
                "websocket-handshake",
                "This is no opening handshake of a WebSocket (RFC 6455, version 13).",
                headers={"Sec-WebSocket-Version": "13"},
            )
        offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        async with session.ws_connect(
            _url(address, request.raw_path),
            headers=headers,
            protocols=[name for name in offered if name],
            autoclose=False,
            autoping=False,
            max_msg_size=MAX_MESSAGE_BYTES,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
        ) as agent:
            client = web.WebSocketResponse(
                protocols=[agent.protocol] if agent.protocol else (),
                autoclose=False,
                autoping=False,
                compress=False,
                max_msg_size=MAX_MESSAGE_BYTES,
                timeout=CLOSE_SECONDS,
            )
            await client.prepare(request)
            connection = request.protocol
            await bridge(
                client,
                agent,
                self._closing,
                patience=self._patience,
                client_progress=lambda: getattr(connection, "received", 0),
            )
            return client

    def _unavailable(self, request: web.Request) -> web.Response:
        phase = self._operations.phase()
        if (
            request.method in ("GET", "HEAD")
            and "text/html" in request.headers.get("Accept", "")
            and "Upgrade" not in request.headers
        ):
            return web.Response(status=503, body=pages.waiting_page(phase), headers=pages.HEADERS)
        return error_answer(
            HttpError(
                503,
                "agent-unavailable",
                f"The agent is not available (phase {phase}).",
                hint="Try again in a moment; /readyz says what is missing.",
                headers={"Retry-After": str(pages.REFRESH_SECONDS)},
            )
        )


def wants_websocket(request: web.BaseRequest) -> bool:
    """Whether a request is a WebSocket's opening handshake, as far as it can be seen before it is carried out."""
    return request.headers.get("Upgrade", "").lower() == "websocket" and request.method == "GET"


def _head(request: web.BaseRequest, headers: CIMultiDict[str]) -> bytes:
    try:
        return request_head(request.method, request.raw_path, headers.items())
    except ValueError as error:
        raise HttpError(400, "bad-request", "A header holds a control character.") from error


async def _relay(request: web.Request, answer: AgentAnswer) -> tuple[web.StreamResponse, bool]:
    """Pass an answer on; also tells whether all of it was."""
    headers, body = passing.to_client(answer.headers), answer.body
    if not sendable(answer.reason, headers):
        raise AgentBrokeOff("a control character in the head of the answer")
    response: web.StreamResponse
    if body.is_eof() and body.exception() is None and request.method != "HEAD":
        # All of it is here: one write instead of two.
        response = web.Response(status=answer.status, reason=answer.reason, headers=headers, body=await body.read())
    else:
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=headers)
    try:
        await response.prepare(request)
        if not isinstance(response, web.Response):
            while piece := await body.readany():
                await response.write(piece)
        await response.write_eof()
    except (aiohttp.ClientError, OSError):
        # Either side is gone. The head is out: breaking the connection is all that still says so.
        if request.transport is not None:
            request.transport.abort()
        return response, False
    return response, True


def _failed(sending: asyncio.Task[None]) -> bool:
    """Whether the client's body could not be had; an agent that would not take it is no failure, it may answer."""
    return sending.done() and not sending.cancelled() and not isinstance(sending.exception(), AgentBrokeOff | None)


def _answered(answering: asyncio.Task[AgentAnswer]) -> bool:
    return answering.done() and not answering.cancelled() and answering.exception() is None


def _url(address: Address, target: str) -> URL:
    # Encoded already, and to stay exactly as it came: what was judged is what the agent gets.
    path, mark, query = target.partition("?")
    url = URL.build(scheme="http", host=address[0], port=address[1], path=path, encoded=True)
    return URL(f"{url}?{query}", encoded=True) if mark else url
