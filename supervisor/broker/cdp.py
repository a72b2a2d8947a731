"""Where the agent's browser is, and what of its discovery documents the agent gets to see."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

BROWSER_RUN = "https://api.cloudflare.com/client/v4/accounts"
_BROWSER_RUN_PATH = "/browser-rendering/devtools/browser"

TARGET_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
MAX_TARGETS = 256
"""Remembered; beyond so many the oldest is forgotten."""

_TOLD = ("id", "type", "title", "url", "description", "faviconUrl", "parentId", "attached")
_VERSION = ("Browser", "Protocol-Version", "User-Agent", "V8-Version", "WebKit-Version")


class Kind(StrEnum):
    """How the browser is found."""

    DISCOVERY = "discovery"
    """`/json/version` and the rest below an HTTP address, as Chrome has them."""
    SESSIONS = "sessions"
    """Cloudflare Browser Run: a session is begun by POST, and has its own `/json/list` below its id."""
    SOCKET = "socket"
    """A WebSocket and nothing else: each connection is a browser."""


@dataclass(frozen=True, slots=True)
class Browser:
    """The browser behind the broker.

    Args:
        url: `http(s)`, or `ws(s)` for a `SOCKET`.
        secret: the name of its key; None where it wants none.
        parameter: the query parameter that the key goes in; empty: a bearer token.
    """

    kind: Kind
    url: str
    secret: str | None = None
    parameter: str = ""

    @property
    def socket_url(self) -> str:
        """The address for WebSockets."""
        return "ws" + self.url.removeprefix("http") if self.url.startswith("http") else self.url


def browser(variables: Mapping[str, str]) -> Browser | None:
    """The browser that the variables name: an address of one's own, Browser Run, or the Worker's endpoint."""
    token = "MOLTINIT_BROWSER_TOKEN" if "MOLTINIT_BROWSER_TOKEN" in variables else None
    url = variables.get("MOLTINIT_BROWSER_URL")
    if url is None and token and "CF_ACCOUNT_ID" in variables:
        url = f"{BROWSER_RUN}/{variables['CF_ACCOUNT_ID']}{_BROWSER_RUN_PATH}"
    if url is not None:
        if urlsplit(url).path.endswith(_BROWSER_RUN_PATH):
            return Browser(Kind.SESSIONS, re.sub(r"^ws", "http", url), token)
        return Browser(Kind.SOCKET if url.startswith("ws") else Kind.DISCOVERY, url, token)
    if "CDP_SECRET" in variables and "WORKER_URL" in variables:
        return Browser(Kind.DISCOVERY, f"{variables['WORKER_URL']}/cdp", "CDP_SECRET", "secret")
    return None


class Targets:
    """What discovery has told of WebSocket addresses: an agent reaches those, and no other path of that host."""

    def __init__(self, browser: Browser, local: str) -> None:
        self._browser = browser
        self._host = urlsplit(browser.url).netloc
        self._local = local
        self._sockets: dict[str, str] = {}

    def clear(self) -> None:
        """The session is over."""
        self._sockets.clear()

    def socket(self, target: str) -> str | None:
        """The address of a page's WebSocket, where it is known."""
        return self._sockets.get(target)

    def version(self, document: object) -> dict[str, Any]:
        """`/json/version` as the agent gets it."""
        told = document if isinstance(document, dict) else {}
        kept = {name: told[name] for name in _VERSION if isinstance(told.get(name), str)}
        return {"Browser": "Remote", "Protocol-Version": "1.3", **kept, "webSocketDebuggerUrl": self._local}

    def listing(self, document: object) -> list[dict[str, Any]]:
        """`/json/list` as the agent gets it."""
        return [row for row in map(self.target, document if isinstance(document, list) else []) if row]

    def target(self, document: object) -> dict[str, Any]:
        """One target as the agent gets it: fields that are known, its WebSocket on the broker; empty for nonsense."""
        if not isinstance(document, dict):
            return {}
        target = document.get("id")
        if not isinstance(target, str) or not TARGET_ID.fullmatch(target):
            return {}
        self._learn(target, document.get("webSocketDebuggerUrl"))
        kept = {name: document[name] for name in _TOLD if isinstance(document.get(name), str | bool)}
        return {**kept, "webSocketDebuggerUrl": f"{self._local.rpartition('/devtools/')[0]}/devtools/page/{target}"}

    def _learn(self, target: str, url: object) -> None:
        if not isinstance(url, str):
            return
        try:
            parts = urlsplit(url)
        except ValueError:
            return
        # The browser may know itself by another name, or be behind a port that was forwarded: only the path counts.
        if not re.fullmatch(r"/[A-Za-z0-9/._-]*", parts.path) or ".." in parts.path:
            return
        own = urlsplit(self._browser.socket_url)
        self._sockets.pop(target, None)
        self._sockets[target] = f"{own.scheme}://{self._host}{parts.path}"
        while len(self._sockets) > MAX_TARGETS:
            del self._sockets[next(iter(self._sockets))]
