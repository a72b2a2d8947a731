"""When to take a snapshot: soon after a change, not more often than the machine can bear, and never for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from supervisor.clock import Clock
from supervisor.errors import Fenced, MoltinitError


@dataclass(frozen=True, slots=True)
class Pace:
    """All values are seconds, except `share`.

    Args:
        quiet: how long nothing must change before a snapshot is taken.
        max_delay: how long a snapshot is put off at most while things keep changing.
        share: the part of one core that snapshots and walks may use on average.
        walk_least, walk_most: bounds of the time between two walks that look for what the watcher missed.
        consistent_interval: how often the agent is held still for a snapshot, at most.
    """

    quiet: float = 0.5
    max_delay: float = 1.5
    share: float = 0.05
    walk_least: float = 2.0
    walk_most: float = 60.0
    consistent_interval: float = 900.0


RETRY_LEAST, RETRY_MOST = 1.0, 30.0
"""Seconds before a failed snapshot is tried again, doubling from the first to the second."""


class Schedule:
    """Runs until it is cancelled, or fenced.

    Args:
        hint: set by the watcher.
        changed: walks the tree; True where there is something to save.
        take: takes a snapshot, quiesced where the argument says so, and returns the CPU seconds that it cost.
        failed: told of each failure; the work is tried again.
        succeeded: told after a snapshot, or after a walk that found nothing to save.
    """

    def __init__(
        self,
        *,
        pace: Pace,
        clock: Clock,
        hint: asyncio.Event,
        changed: Callable[[], Awaitable[bool]],
        take: Callable[[bool], Awaitable[float]],
        failed: Callable[[MoltinitError], None],
        succeeded: Callable[[], None],
    ) -> None:
        self._pace = pace
        self._clock = clock
        self._hint = hint
        self._changed = changed
        self._take = take
        self._failed = failed
        self._succeeded = succeeded
        self._walk_seconds = 0.0
        self._last_consistent = clock.monotonic()
        self._live_since_consistent = False
        self.pending = False

    async def run(self) -> None:
        """Raises `Fenced`."""
        retry = RETRY_LEAST
        rest = 0.0
        while True:
            await self._clock.sleep(rest)
            try:
                rest = await self._round()
            except Fenced:
                raise
            except MoltinitError as error:
                self._failed(error)
                self._hint.set()
                rest = retry
                retry = min(retry * 2, RETRY_MOST)
            else:
                self._succeeded()
                retry = RETRY_LEAST

    async def _round(self) -> float:
        """One wait and, where something changed, one snapshot; returns how long to rest for the machine's sake."""
        if not await self._wait_for_change():
            return 0.0
        self.pending = True
        self._hint.clear()
        consistent = self._consistent_is_due()
        cost = await self._take(consistent)
        self.pending = False
        if consistent:
            self._last_consistent = self._clock.monotonic()
        self._live_since_consistent = not consistent
        return min(cost / self._pace.share, self._pace.walk_most)

    def _consistent_is_due(self) -> bool:
        return self._clock.monotonic() - self._last_consistent >= self._pace.consistent_interval

    async def _wait_for_change(self) -> bool:
        """True when there is something to save."""
        if not await self._hinted(self._walk_interval()):
            started = self._clock.monotonic()
            found = await self._changed()
            self._walk_seconds = self._clock.monotonic() - started
            return found or (self._live_since_consistent and self._consistent_is_due())
        first = self._clock.monotonic()
        while True:
            self._hint.clear()
            left = first + self._pace.max_delay - self._clock.monotonic()
            if left <= 0 or not await self._hinted(min(self._pace.quiet, left)):
                return True

    def _walk_interval(self) -> float:
        return min(max(self._walk_seconds / self._pace.share, self._pace.walk_least), self._pace.walk_most)

    async def _hinted(self, seconds: float) -> bool:
        """Wait for a hint, for at most `seconds`."""
        if self._hint.is_set():
            return True
        async with asyncio.TaskGroup() as group:
            hint = group.create_task(self._hint.wait())
            timer = group.create_task(self._clock.sleep(seconds))
            await asyncio.wait((hint, timer), return_when=asyncio.FIRST_COMPLETED)
            hint.cancel()
            timer.cancel()
        return self._hint.is_set()
