"""The daemon watches its own event loop: a loop that is late answers no probe and sees no signal."""

from __future__ import annotations

from collections import deque

from supervisor.clock import Clock
from supervisor.health.problems import Problems

INTERVAL_SECONDS = 0.5
WINDOW_SECONDS = 60.0
LIMIT_SECONDS = 1.0
"""Beyond this a `/livez` with the usual time-out of one second fails."""

PROBLEM = "event-loop-slow"


class LoopLag:
    """Measures how late a timer fires; a problem is open while the worst of the window is too late."""

    def __init__(
        self,
        clock: Clock,
        problems: Problems,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        window_seconds: float = WINDOW_SECONDS,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        self._clock = clock
        self._problems = problems
        self._interval = interval_seconds
        self._window = window_seconds
        self._limit = limit_seconds
        # A monotonic queue: lags fall from left to right, so the worst of the window is always the first.
        self._worst: deque[tuple[float, float]] = deque()

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            before = self._clock.monotonic()
            await self._clock.sleep(self._interval)
            self.observe(self._clock.monotonic() - before - self._interval)

    def observe(self, lag_seconds: float) -> None:
        """Take one measurement into account."""
        now = self._clock.monotonic()
        lag = max(lag_seconds, 0.0)
        while self._worst and self._worst[-1][1] <= lag:
            self._worst.pop()
        self._worst.append((now, lag))
        self._forget(now)
        if self._worst[0][1] > self._limit:
            self._problems.report(
                PROBLEM,
                f"The event loop was {self._worst[0][1]:.1f} s late in the last {self._window:.0f} s.",
                "The machine is short of CPU or memory; a larger instance helps.",
            )
        else:
            self._problems.clear(PROBLEM)

    def max_lag(self) -> float:
        """The worst lag of the window, in seconds."""
        self._forget(self._clock.monotonic())
        return self._worst[0][1] if self._worst else 0.0

    def _forget(self, now: float) -> None:
        while self._worst and self._worst[0][0] < now - self._window:
            self._worst.popleft()
