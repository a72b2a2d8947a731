"""Asking a loopback HTTP server after its health: JSON with a known field, never a bare 200."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent_runtime.contract import Probe

if TYPE_CHECKING:
    import aiohttp

MAX_ANSWER_BYTES = 64 << 10


class HttpProbe:
    """One connection pool for all probes of one agent."""

    def __init__(self, host: str, port: int) -> None:
        self._base = f"http://{host}:{port}"
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, path: str, good: Callable[[dict[str, Any]], bool]) -> Probe:
        """Ok when the answer is a JSON object that `good` accepts. The caller bounds the time."""
        import aiohttp

        if self._session is None:
            # A connection of its own for each probe: one that is kept alive dies with every restart of the agent.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        try:
            async with self._session.get(self._base + path, allow_redirects=False) as answer:
                text = await answer.content.read(MAX_ANSWER_BYTES)
                status = answer.status
        except (aiohttp.ClientError, OSError) as error:
            return Probe(False, f"{path}: {type(error).__name__}")
        try:
            document = json.loads(text)
        except ValueError:
            return Probe(False, f"{path}: {status} without JSON")
        if status == 200 and isinstance(document, dict) and good(document):
            return Probe(True)
        return Probe(False, f"{path}: {status} {_short(document)}")

    async def close(self) -> None:
        """Give back connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _short(document: object) -> str:
    if isinstance(document, dict):
        document = {key: document[key] for key in ("status", "pendingReason", "failing") if key in document}
    return json.dumps(document)[:200]
