"""Requests and WebSockets to the browser, each with its credential; no answer is quoted in an error."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from supervisor.broker.cdp import Browser
from supervisor.broker.keys import Keyring
from supervisor.straight import straight

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""A screenshot of a long page, as base64 within one message."""
MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 15.0
CLOSE_SECONDS = 2.0
HEARTBEAT_SECONDS = 25.0


class BrowserError(Exception):
    """The broker answers in the browser's place."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Remote:
    """The browser far away. All methods raise `BrowserError`."""

    def __init__(self, browser: Browser, keyring: Keyring) -> None:
        self._browser = browser
        self._keyring = keyring
        self._client: aiohttp.ClientSession | None = None

    def start(self) -> None:
        """Make the client; needs a running event loop."""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
            trace_configs=[straight()],
            trust_env=False,
        )

    async def close(self) -> None:
        """Give back the connections."""
        if self._client is not None:
            await self._client.close()

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

    async def call(self, method: str, path: str) -> Any:
        """One request below the browser's address; its JSON, or its text."""
        assert self._client is not None
        headers, query = self._credential()
        url = _joined(self._browser.url + path, query)
        try:
            async with self._client.request(method, url, headers=headers, allow_redirects=False) as answer:
                data = await _bounded(answer)
                if answer.status >= 300:
                    raise BrowserError(_passed(answer.status), f"the browser answered with status {answer.status}")
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from None
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return data.decode("utf-8", "replace")
        # Cloudflare's API wraps some of its answers.
        wrapped = isinstance(document, dict) and "success" in document and "result" in document
        return document["result"] if wrapped else document

    async def dial(self, url: str) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket."""
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
            status = error.status
            raise BrowserError(_passed(status), f"the browser refused the WebSocket with status {status}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(error) from None


def _passed(status: int) -> int:
    """What a client can make something of; the rest is between the broker and the browser."""
    return status if status in (404, 410, 429) else 502


def _joined(url: str, query: str) -> URL:
    return URL(f"{url}{'&' if '?' in url else '?'}{query}" if query else url, encoded=True)


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in answer.content.iter_any():
        data += chunk
        if len(data) > MAX_DOCUMENT_BYTES:
            raise BrowserError(502, f"the browser's answer is longer than {MAX_DOCUMENT_BYTES} bytes")
    return bytes(data)


def _unreachable(error: Exception) -> BrowserError:
    if isinstance(error, TimeoutError):
        return BrowserError(504, "the browser did not answer in time")
    return BrowserError(502, f"the browser cannot be reached ({type(error).__name__})")
