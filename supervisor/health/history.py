"""Memory and disk over the life of this boot, in a bounded number of points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from supervisor.clock import Clock
from supervisor.health.resources import Resources, Usage

INTERVAL_SECONDS = 15.0
POINTS = 240
"""A quarter more than a phone has room for; an hour at first, a day after five doublings, for 20 KiB of memory."""


@dataclass(frozen=True, slots=True)
class Point:
    """The highest use seen in one stretch of time, which ends at `at` (seconds since 1970)."""

    at: float
    resources: Resources


class History:
    """A series that covers the whole boot: when it is full, neighbours become one point and the stretch doubles.

    A pair keeps its higher use, so that a peak is never smoothed away.

    Args:
        look: one look at the machine.
        points: how many are kept at most; at least half of that many always, once they have been.
    """

    def __init__(
        self,
        clock: Clock,
        look: Callable[[], Resources],
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        points: int = POINTS,
    ) -> None:
        self._clock = clock
        self._look = look
        self._interval = interval_seconds
        self._most = points
        self._looks_per_point = 1
        self._open: list[Point] = []
        self._points: list[Point] = []

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.observe()
            await self._clock.sleep(self._interval)

    def observe(self) -> None:
        """Take one look into account."""
        self._open.append(Point(self._clock.time(), self._look()))
        if len(self._open) < self._looks_per_point:
            return
        self._points.append(_higher(self._open))
        self._open = []
        if len(self._points) >= self._most:
            pairs = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [_higher([first, second]) for first, second in pairs]
            self._looks_per_point *= 2

    def with_now(self) -> tuple[Point, ...]:
        """The series, and a fresh look at its end."""
        return (*self.points, Point(self._clock.time(), self._look()))

    @property
    def points(self) -> tuple[Point, ...]:
        """The series, the oldest first; its last point may be of an unfinished stretch."""
        return (*self._points, *([_higher(self._open)] if self._open else []))


def _higher(points: list[Point]) -> Point:
    return Point(
        points[-1].at,
        Resources(
            memory=_fuller([point.resources.memory for point in points]),
            disk=_fuller([point.resources.disk for point in points]),
        ),
    )


def _fuller(usages: list[Usage | None]) -> Usage | None:
    known = [usage for usage in usages if usage is not None]
    return max(known, key=lambda usage: usage.used / usage.total if usage.total else 0.0, default=None)
