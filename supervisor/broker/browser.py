"""The agent's eyes: a CDP endpoint on loopback, towards a browser that wants a credential.

A session at Browser Run is begun when somebody connects, kept between connections so that tabs and logins stay, and
given back when nobody has used it for a while: it costs by the minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import aiohttp
from aiohttp import WSMsgType, web
from yarl import URL

from supervisor.broker import paths
from supervisor.broker.cdp import TARGET_ID, Browser, Kind, Targets
from supervisor.broker.forward import Log
from supervisor.broker.keys import Keyring
from supervisor.clock import Clock

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A screenshot of a long page, as base64 within one message."""
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 15.0
CLOSE_SECONDS = 2.0
HEARTBEAT_SECONDS = 25.0
LOOK_SECONDS = 5.0
LONGEST_KEEP_ALIVE = 600
"""Seconds; Browser Run keeps an idle browser no longer."""

_GOING_AWAY, _TOO_BIG, _RESTARTING = 1001, 1009, 1012

Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class BrowserError(Exception):
    """The broker answers in the browser's place."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class BrowserBroker:
    """Serves `/browser`.

    Args:
        local: the WebSocket address that the agent is told, `ws://127.0.0.1:PORT/browser/devtools/browser/agent`.
        sessions: WebSockets at once.
        idle: seconds without a message after which a connection, and later the session, is let go.
    """

    def __init__(
        self,
        browser: Browser,
        *,
        keyring: Keyring,
        token: str,
        local: str,
        sessions: int,
        idle: float,
        clock: Clock,
        log: Log,
    ) -> None:
        self._browser = browser
        self._keyring = keyring
        self._token = token
        self._sessions = sessions
        self._idle = idle
        self._clock = clock
        self._log = log
        self._targets = Targets(browser, local)
        self._session_id: str | None = None
        self._beginning = asyncio.Lock()
        self._open = 0
        self._closing = asyncio.Event()
        self._client: aiohttp.ClientSession | None = None

    def start(self) -> None:
        """Make the client; needs a running event loop."""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close every WebSocket, and give the session back."""
        self._closing.set()
        if self._session_id is not None:
            with contextlib.suppress(BrowserError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._call("DELETE", f"/{self._session_id}")
        if self._client is not None:
            await self._client.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request below `/browser`."""
        try:
            self._check_token(request)
            path = request.raw_path.partition("?")[0].removeprefix("/browser").rstrip("/")
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._websocket(request, path)
            return web.json_response(await self._discover(request, path))
        except BrowserError as error:
            self._log.debug("browser.refused", status=error.status)
            return web.json_response({"error": error.message}, status=error.status)

    def _check_token(self, request: web.BaseRequest) -> None:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        for said in (paths.query_token(request.raw_path), bearer):
            if said and hmac.compare_digest(said.encode(), self._token.encode()):
                return
        raise BrowserError(401, "the broker serves this VM's agent alone: add ?token=, or a bearer token")

    # -- discovery

    async def _discover(self, request: web.BaseRequest, path: str) -> Any:
        _, _, rest = path.partition("/json")
        method = request.method
        if path in ("/json", "/json/list") and method == "GET":
            return await self._list()
        if path == "/json/version" and method == "GET":
            return await self._version()
        if path == "/json/new" and method in ("GET", "PUT", "POST"):
            return await self._new(_wanted_url(request.raw_path))
        action, _, target = rest.removeprefix("/").partition("/")
        if action in ("close", "activate") and TARGET_ID.fullmatch(target):
            return await self._act(action, target)
        raise BrowserError(404, "no such path here: /json/version, /json/list, /json/new, /json/close/ID, a WebSocket")

    async def _version(self) -> Any:
        # Asked often, to see whether there is a browser at all: that begins no session.
        known = await self._call("GET", "/json/version") if self._browser.kind is Kind.DISCOVERY else None
        return self._targets.version(known)

    async def _list(self) -> Any:
        if self._browser.kind is Kind.DISCOVERY:
            return self._targets.listing(await self._call("GET", "/json/list"))
        if self._browser.kind is Kind.SESSIONS and self._session_id is not None:
            try:
                return self._targets.listing(await self._call("GET", f"/{self._session_id}/json/list"))
            except BrowserError as error:
                self._lost(error)
        return []

    async def _new(self, url: str) -> Any:
        query = f"?url={quote(url, safe='')}" if self._browser.kind is Kind.SESSIONS else f"?{quote(url, safe='')}"
        made = self._targets.target(await self._in_session("PUT", "/json/new" + (query if url else "")))
        if not made:
            raise BrowserError(502, "the browser answered with no target")
        return made

    async def _act(self, action: str, target: str) -> Any:
        method = "DELETE" if self._browser.kind is Kind.SESSIONS and action == "close" else "GET"
        await self._in_session(method, f"/json/{action}/{target}")
        return {"ok": True}

    async def _in_session(self, method: str, path: str) -> Any:
        if self._browser.kind is Kind.SOCKET:
            raise BrowserError(
                501, "this browser has a WebSocket only: open and close tabs there (Target.createTarget)"
            )
        if self._browser.kind is Kind.DISCOVERY:
            return await self._call(method, path)
        try:
            return await self._call(method, f"/{await self._session()}{path}")
        except BrowserError as error:
            self._lost(error)
        return await self._call(method, f"/{await self._session()}{path}")

    # -- the session at Browser Run

    async def _session(self) -> str:
        async with self._beginning:
            if self._session_id is None:
                keep_alive = int(min(self._idle, LONGEST_KEEP_ALIVE) * 1000)
                answer = await self._call("POST", f"?keep_alive={keep_alive}")
                begun = answer.get("sessionId") if isinstance(answer, dict) else None
                if not isinstance(begun, str) or not TARGET_ID.fullmatch(begun):
                    raise BrowserError(502, "the browser's answer names no session")
                self._session_id = begun
                self._targets.clear()
            return self._session_id

    def _lost(self, error: BrowserError) -> None:
        """A session that is not there any more is forgotten; any other trouble is told."""
        if error.status not in (404, 410):
            raise error
        self._session_id = None
        self._targets.clear()

    # -- towards the browser

    def _credential(self) -> tuple[dict[str, str], str]:
        """Headers, and what goes into the query."""
        if self._browser.secret is None:
            return {}, ""
        secret = self._keyring.get(self._browser.secret)
        if secret is None:
            raise BrowserError(503, f"the broker has no key for the browser ({self._browser.secret})")
        if self._browser.parameter:
            return {}, urlencode({self._browser.parameter: secret})
        return {"Authorization": f"Bearer {secret}"}, ""

    async def _call(self, method: str, path: str) -> Any:
        """One HTTP request to the browser; its JSON, or its text. Raises `BrowserError` without any of its words."""
        assert self._client is not None
        headers, query = self._credential()
        url = _joined(self._browser.url + path, query)
        try:
            async with self._client.request(method, url, headers=headers, allow_redirects=False) as answer:
                data = await _bounded(answer)
                if answer.status >= 300:
                    status = answer.status if answer.status in (404, 410, 429) else 502
                    raise BrowserError(status, f"the browser answered with status {answer.status}")
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from None
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return data.decode("utf-8", "replace")
        # Cloudflare's API wraps some of its answers.
        wrapped = isinstance(document, dict) and "success" in document and "result" in document
        return document["result"] if wrapped else document

    async def _websocket(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if self._open >= self._sessions:
            raise BrowserError(429, f"{self._sessions} connections to the browser are open already")
        self._open += 1
        try:
            async with await self._connected(path) as upstream:
                client = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES, compress=False, timeout=CLOSE_SECONDS)
                await client.prepare(request)
                await self._carry(client, upstream)
                return client
        finally:
            self._open -= 1
            if self._open == 0 and self._browser.kind is Kind.SOCKET:
                self._targets.clear()

    async def _connected(self, path: str) -> aiohttp.ClientWebSocketResponse:
        try:
            return await self._dial(await self._socket_url(path))
        except BrowserError as error:
            if self._browser.kind is not Kind.SESSIONS:
                raise
            self._lost(error)
        return await self._dial(await self._socket_url(path))

    async def _socket_url(self, path: str) -> str:
        kind, base = self._browser.kind, self._browser.socket_url
        _, _, rest = path.partition("/devtools/")
        what, _, target = rest.partition("/")
        if rest and (what not in ("browser", "page") or not TARGET_ID.fullmatch(target)):
            raise BrowserError(404, "no such WebSocket here")
        if what == "page":
            known = self._targets.socket(target)
            if known is None:
                await self._list()
                known = self._targets.socket(target)
            if known is None:
                raise BrowserError(404, "there is no such page")
            return known
        if kind is Kind.SESSIONS:
            return f"{base}/{await self._session()}"
        if kind is Kind.SOCKET:
            return base
        return await self._browser_socket()

    async def _browser_socket(self) -> str:
        """Chrome gives its own socket a new name with each start."""
        version = await self._call("GET", "/json/version")
        told = version.get("webSocketDebuggerUrl") if isinstance(version, dict) else None
        self._targets.target({"id": "browser", "webSocketDebuggerUrl": told})
        found = self._targets.socket("browser")
        if found is None:
            raise BrowserError(502, "the browser names no WebSocket of its own")
        return found

    async def _dial(self, url: str) -> aiohttp.ClientWebSocketResponse:
        assert self._client is not None
        headers, query = self._credential()
        try:
            return await self._client.ws_connect(
                _joined(url, query),
                headers=headers,
                max_msg_size=MAX_MESSAGE_BYTES,
                heartbeat=HEARTBEAT_SECONDS,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
            )
        except aiohttp.WSServerHandshakeError as error:
            status = error.status if error.status in (404, 410, 429) else 502
            raise BrowserError(status, f"the browser refused the WebSocket with status {error.status}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from None

    # -- messages

    async def _carry(self, client: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse) -> None:
        """Pass messages both ways until one side closes, nobody says anything for too long, or the daemon ends."""
        spoken = _Spoken(self._clock)
        pumps = [
            asyncio.ensure_future(_pump(client, upstream, spoken)),
            asyncio.ensure_future(_pump(upstream, client, spoken)),
            asyncio.ensure_future(self._idled(spoken)),
            asyncio.ensure_future(self._told()),
        ]
        try:
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            code = next(iter(done)).result()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            await upstream.close()
        await client.close(code=code)

    async def _idled(self, spoken: _Spoken) -> int:
        while (left := self._idle - spoken.ago) > 0:
            await self._clock.sleep(min(left + 0.01, LOOK_SECONDS))
        self._log.debug("browser.idle", seconds=self._idle)
        return _GOING_AWAY

    async def _told(self) -> int:
        await self._closing.wait()
        return _RESTARTING

    def report(self) -> dict[str, Any]:
        """For `/status`."""
        return {"kind": self._browser.kind.value, "connections": self._open, "session": self._session_id is not None}


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in answer.content.iter_any():
        data += chunk
        if len(data) > MAX_DOCUMENT_BYTES:
            raise BrowserError(502, f"the browser's answer is longer than {MAX_DOCUMENT_BYTES} bytes")
    return bytes(data)


class _Spoken:
    """When the last message passed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._at = clock.monotonic()

    def now(self) -> None:
        self._at = self._clock.monotonic()

    @property
    def ago(self) -> float:
        return self._clock.monotonic() - self._at


async def _pump(source: Socket, target: Socket, spoken: _Spoken) -> int:
    """Pass on what `source` says; returns the code that the client is closed with."""
    while True:
        message = await source.receive()
        spoken.now()
        try:
            if message.type is WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await target.send_bytes(message.data)
            else:  # CLOSE, CLOSING, CLOSED, ERROR
                return _TOO_BIG if source.close_code == _TOO_BIG else _GOING_AWAY
        except (ConnectionError, aiohttp.ClientError):
            return _GOING_AWAY


def _wanted_url(raw_path: str) -> str:
    """`/json/new?https://...` as Chrome takes it, or `?url=...` as Browser Run does."""
    query = raw_path.partition("?")[2]
    named = dict(parse_qsl(query))
    if "url" in named:
        return named["url"]
    bare = [piece for piece in query.split("&") if not piece.startswith("token=")]
    return unquote("&".join(bare))


def _joined(url: str, query: str) -> URL:
    return URL(f"{url}{'&' if '?' in url else '?'}{query}" if query else url, encoded=True)


def _unreachable(error: Exception) -> BrowserError:
    if isinstance(error, TimeoutError):
        return BrowserError(504, "the browser did not answer in time")
    return BrowserError(502, f"the browser cannot be reached ({type(error).__name__})")
