"""The agent's eyes: a CDP endpoint on loopback, towards a browser that wants a credential.

A session at Browser Run is begun when somebody connects, kept between connections so that tabs and logins stay, and
given back when nobody has used it for a while: it costs by the minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

import aiohttp
from aiohttp import web

from supervisor.broker import paths
from supervisor.broker.carry import carry
from supervisor.broker.cdp import TARGET_ID, Browser, Kind, Targets
from supervisor.broker.forward import Log
from supervisor.broker.keys import Keyring
from supervisor.broker.remote import CLOSE_SECONDS, MAX_MESSAGE_BYTES, BrowserError, Remote
from supervisor.clock import Clock

LONGEST_KEEP_ALIVE = 600
"""Seconds; Browser Run keeps an idle browser no longer."""


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
        self._remote = Remote(browser, keyring)
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

    def start(self) -> None:
        """Make the client; needs a running event loop."""
        self._remote.start()

    async def close(self) -> None:
        """Close every WebSocket, and give the session back."""
        self._closing.set()
        if self._session_id is not None:
            with contextlib.suppress(BrowserError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._remote.call("DELETE", f"/{self._session_id}")
        await self._remote.close()

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
        known = await self._remote.call("GET", "/json/version") if self._browser.kind is Kind.DISCOVERY else None
        return self._targets.version(known)

    async def _list(self) -> Any:
        if self._browser.kind is Kind.DISCOVERY:
            return self._targets.listing(await self._remote.call("GET", "/json/list"))
        if self._browser.kind is Kind.SESSIONS and self._session_id is not None:
            try:
                return self._targets.listing(await self._remote.call("GET", f"/{self._session_id}/json/list"))
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
            return await self._remote.call(method, path)
        try:
            return await self._remote.call(method, f"/{await self._session()}{path}")
        except BrowserError as error:
            self._lost(error)
        return await self._remote.call(method, f"/{await self._session()}{path}")

    # -- the session at Browser Run

    async def _session(self) -> str:
        async with self._beginning:
            if self._session_id is None:
                keep_alive = int(min(self._idle, LONGEST_KEEP_ALIVE) * 1000)
                answer = await self._remote.call("POST", f"?keep_alive={keep_alive}")
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

    async def _websocket(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if self._open >= self._sessions:
            raise BrowserError(429, f"{self._sessions} connections to the browser are open already")
        self._open += 1
        try:
            async with await self._connected(path) as upstream:
                client = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES, compress=False, timeout=CLOSE_SECONDS)
                await client.prepare(request)
                await carry(client, upstream, clock=self._clock, idle=self._idle, closing=self._closing)
                return client
        finally:
            self._open -= 1
            if self._open == 0 and self._browser.kind is Kind.SOCKET:
                self._targets.clear()

    async def _connected(self, path: str) -> aiohttp.ClientWebSocketResponse:
        try:
            return await self._remote.dial(await self._socket_url(path))
        except BrowserError as error:
            if self._browser.kind is not Kind.SESSIONS:
                raise
            self._lost(error)
        return await self._remote.dial(await self._socket_url(path))

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
        version = await self._remote.call("GET", "/json/version")
        told = version.get("webSocketDebuggerUrl") if isinstance(version, dict) else None
        self._targets.target({"id": "browser", "webSocketDebuggerUrl": told})
        found = self._targets.socket("browser")
        if found is None:
            raise BrowserError(502, "the browser names no WebSocket of its own")
        return found

    def report(self) -> dict[str, Any]:
        """For `/status`."""
        return {"kind": self._browser.kind.value, "connections": self._open, "session": self._session_id is not None}


def _wanted_url(raw_path: str) -> str:
    """`/json/new?https://...` as Chrome takes it, or `?url=...` as Browser Run does."""
    query = raw_path.partition("?")[2]
    named = dict(parse_qsl(query))
    if "url" in named:
        return named["url"]
    bare = [piece for piece in query.split("&") if not piece.startswith("token=")]
    return unquote("&".join(bare))
