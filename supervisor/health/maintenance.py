"""Maintenance: while an operator works on the agent, nothing is done to it automatically.

Paused are the restarts of an agent that ended or does not answer, retention, and garbage collection; what an operator
asks for is done, and saving goes on. It is in memory only: a new daemon is never in maintenance.
"""

from __future__ import annotations

import asyncio

from supervisor.clock import Clock
from supervisor.health.problems import Problems

CODE = "maintenance"


class Maintenance:
    """On or off, and shown as a problem while on, so that nobody forgets it."""

    def __init__(self, clock: Clock, problems: Problems) -> None:
        self._clock = clock
        self._problems = problems
        self._over = asyncio.Event()
        self._over.set()
        self.reason = ""
        self.since: float | None = None

    @property
    def on(self) -> bool:
        """Are automatic actions paused?"""
        return self.since is not None

    def begin(self, reason: str) -> None:
        """Pause automatic actions; once more, it only changes the reason."""
        self.reason = reason
        self._over.clear()
        if self.since is None:
            self.since = self._clock.time()
        self._problems.report(
            CODE,
            "automatic actions are paused: restarts of the agent, retention, garbage collection"
            + (f" ({reason})" if reason else ""),
            "end the maintenance when you are done; saving goes on meanwhile",
        )

    def end(self) -> None:
        """Let automatic actions go on."""
        self.reason = ""
        self.since = None
        self._over.set()
        self._problems.clear(CODE)

    async def over(self) -> None:
        """Wait for its end; at once where it is off."""
        await self._over.wait()
