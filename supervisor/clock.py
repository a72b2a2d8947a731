"""Time as a dependency: monotonic for durations, wall time for display only, and a sleep that tests can drive."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the daemon knows of time. All values are seconds."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; the only clock that durations are measured with."""
        ...

    def time(self) -> float:
        """Seconds since 1970; for display and for records, never for decisions between writers."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; the fake clock of the tests returns when it is advanced that far."""
        ...


class SystemClock:
    """The clock of the machine."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
