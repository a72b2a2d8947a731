"""The agent's public paths, for senders who cannot sign in: what they may send, how much, how often.

Behind a reverse proxy everybody has its address, so the limits hold for all strangers together: they bound what
strangers can make the agent do, and leave the way of those who signed in free.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from supervisor.http.answers import HttpError
from supervisor.http.paths import PublicPaths

METHODS = frozenset({"GET", "HEAD", "POST"})
MAX_BODY_BYTES = 1024 * 1024
"""Telegram, Slack and GitHub send far less; GitHub's own limit, the largest of them, is 25 MB and means pushes."""
REQUESTS_PER_SECOND = 10.0
BURST = 60
MAX_AT_ONCE = 16
REQUEST_SECONDS = 60.0
"""From the head to the end of the answer."""


class Webhooks:
    """Admits strangers to public paths, within limits."""

    def __init__(self, paths: PublicPaths, *, monotonic: Callable[[], float]) -> None:
        self._paths = paths
        self._monotonic = monotonic
        self._tokens = float(BURST)
        self._filled_at = monotonic()
        self._inside = 0

    def takes(self, method: str, target: str, *, upgrade: bool) -> bool:
        """Whether a request is for one of the public paths; others need a visitor who is known."""
        return bool(self._paths) and method in METHODS and not upgrade and self._paths.match(target)

    @asynccontextmanager
    async def visit(self) -> AsyncIterator[None]:
        """One request of a stranger.

        Raises:
            HttpError: 429, or 504 when it takes too long.
        """
        self._pay()
        self._inside += 1
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                yield
        except TimeoutError as error:
            raise HttpError(504, "webhook-timeout", "The request took too long.") from error
        finally:
            self._inside -= 1

    def _pay(self) -> None:
        now = self._monotonic()
        self._tokens = min(float(BURST), self._tokens + (now - self._filled_at) * REQUESTS_PER_SECOND)
        self._filled_at = now
        if self._tokens < 1 or self._inside >= MAX_AT_ONCE:
            raise HttpError(
                429,
                "too-many-requests",
                "More requests to public paths than are let in.",
                headers={"Retry-After": "1"},
            )
        self._tokens -= 1
