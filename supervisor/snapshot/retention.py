"""Which snapshots stay in HEAD's index: the last ones, then one for each hour, day and week, and what is pinned."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from supervisor.snapshot.format import SnapshotRecord

MOST_WHILE_PAUSED = 2000
"""A pause that somebody forgot must not let HEAD grow without end: it is written with every snapshot."""


def never() -> bool:
    """Retention that is not paused."""
    return False


@dataclass(frozen=True, slots=True)
class Retention:
    """How many of each to keep. Of several snapshots in one hour (day, week; UTC) a consistent one is preferred, then
    the newest. While `paused`, nothing is dropped, up to `MOST_WHILE_PAUSED` snapshots."""

    last: int = 20
    hourly: int = 24
    daily: int = 14
    weekly: int = 8
    unpromoted: int = 3
    paused: Callable[[], bool] = field(default=never, compare=False)

    def apply(self, records: list[SnapshotRecord], *, now: float) -> list[SnapshotRecord]:
        """What stays of `records` (oldest first), in the same order. The newest promoted one always stays."""
        if self.paused() and len(records) <= MOST_WHILE_PAUSED:
            return records
        promoted = [record for record in records if record.promoted]
        keep = {record.sequence for record in promoted[-max(1, self.last) :]}
        keep |= {record.sequence for record in records if record.pin}
        keep |= {record.sequence for record in [r for r in records if not r.promoted][-self.unpromoted :]}
        sound = [record for record in promoted if not record.damaged]
        keep |= {record.sequence for record in sound[-2:]}  # something to fall back to when the newest is damaged
        for count, bucket in ((self.hourly, _hour), (self.daily, _day), (self.weekly, _week)):
            keep |= _one_each(sound, count, bucket)
        return [record for record in records if record.sequence in keep]


def _one_each(records: list[SnapshotRecord], count: int, bucket: Callable[[float], str]) -> set[int]:
    chosen: dict[str, SnapshotRecord] = {}
    for record in records:
        key = bucket(record.taken_at)
        best = chosen.get(key)
        if best is None or (record.consistent, record.sequence) >= (best.consistent, best.sequence):
            chosen[key] = record
    newest_first = sorted(chosen, reverse=True)[:count]
    return {chosen[key].sequence for key in newest_first}


def _hour(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H", time.gmtime(seconds))


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _week(seconds: float) -> str:
    return time.strftime("%G-%V", time.gmtime(seconds))
