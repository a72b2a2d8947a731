"""What is not the front door's own goes to the agent's gateway: streamed, never buffered, as it came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from supervisor.http import headers as passing
from supervisor.http import pages
from supervisor.http.answers import HttpError, error_answer
from supervisor.http.auth import Visitor
from supervisor.http.bridge import MAX_MESSAGE_BYTES, bridge
from supervisor.http.identity import Identity
from supervisor.http.operations import Operations

CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 2.0

_UNREACHABLE = (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError)


class Proxy:
    """Forwards requests to `operations.gateway()`.

    Args:
        identity: says to the agent who is asking.
    """

    def __init__(self, operations: Operations, *, identity: Identity | None = None) -> None:
        self._operations = operations
        self._identity = identity or Identity()
        self._session: aiohttp.ClientSession | None = None
        self._closing = asyncio.Event()

    async def start(self) -> None:
        """Make the client; needs a running event loop."""
        self._session = aiohttp.ClientSession(
            # One connection per request: the gateway closes idle ones on its own clock, and a POST that meets
            # that close cannot be repeated. On loopback a connection costs next to nothing.
            connector=aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )

    def begin_close(self) -> None:
        """Tell every open WebSocket that the service restarts."""
        self._closing.set()

    async def close(self) -> None:
        """Give back the connections."""
        self._closing.set()
        if self._session is not None:
            await self._session.close()

    async def handle(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        """Pass one request on. An answer that breaks off is broken off: never ended as if it were whole."""
        address = self._operations.gateway()
        if address is None or self._session is None:
            return self._unavailable(request)
        url = _url(address, request.raw_path)
        headers = self._identity.to_agent(request, visitor)
        try:
            if _wants_websocket(request):
                return await self._websocket(self._session, request, url, headers)
            return await self._http(self._session, request, url, headers)
        except _UNREACHABLE:
            return self._unavailable(request)
        except aiohttp.WSServerHandshakeError as error:
            raise HttpError(
                error.status if error.status >= 400 else 502,
                "websocket-refused",
                f"The agent refused the WebSocket upgrade with status {error.status}.",
            ) from error
        except aiohttp.ClientError as error:
            raise HttpError(
                502, "agent-broke-off", f"The agent broke off before it answered ({type(error).__name__})."
            ) from error

    async def _http(
        self, session: aiohttp.ClientSession, request: web.Request, url: URL, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        body = _body(request) if request.body_exists else None
        async with session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as upstream:
            response = web.StreamResponse(
                status=upstream.status,
                reason=upstream.reason,
                headers=passing.to_client(upstream.headers),
            )
            try:
                await response.prepare(request)
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
            except (aiohttp.ClientError, OSError):
                # Either side is gone. The head is out: breaking the connection is all that still says so.
                if request.transport is not None:
                    request.transport.abort()
            return response

    async def _websocket(
        self, session: aiohttp.ClientSession, request: web.Request, url: URL, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        async with session.ws_connect(
            url,
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
            await bridge(client, agent, self._closing)
            return client

    def _unavailable(self, request: web.Request) -> web.Response:
        phase = self._operations.phase()
        if request.method in ("GET", "HEAD") and "text/html" in request.headers.get("Accept", ""):
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


def _url(address: tuple[str, int], target: str) -> URL:
    # Encoded already, and to stay exactly as it came: what was judged is what the agent gets.
    path, mark, query = target.partition("?")
    url = URL.build(scheme="http", host=address[0], port=address[1], path=path, encoded=True)
    return URL(f"{url}?{query}", encoded=True) if mark else url


def _wants_websocket(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket" and request.method == "GET"


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_any():
        yield chunk
