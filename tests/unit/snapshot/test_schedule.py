"""When snapshots are taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from supervisor.errors import Fenced, MoltinitError, StoreUnavailable
from supervisor.snapshot.schedule import Pace, Schedule
from tests.support.clock import FakeClock

PACE = Pace(quiet=0.5, max_delay=1.5, share=0.05, walk_least=2.0, walk_most=60.0, consistent_interval=900.0)


class Rig:
    """A schedule with everything around it recorded."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.hint = asyncio.Event()
        self.dirty = False
        self.cost = 0.0
        self.errors: list[MoltinitError] = []
        self.taken: list[tuple[float, bool]] = []
        self.failures: list[str] = []
        self.successes = 0
        self.walks = 0
        self.began = self.clock.monotonic()
        self.schedule = Schedule(
            pace=PACE,
            clock=self.clock,
            hint=self.hint,
            changed=self._changed,
            take=self._take,
            failed=lambda error: self.failures.append(error.code),
            succeeded=self._succeeded,
        )

    def _succeeded(self) -> None:
        self.successes += 1

    async def _changed(self) -> bool:
        self.walks += 1
        return self.dirty

    async def _take(self, consistent: bool) -> float:
        if self.errors:
            raise self.errors.pop(0)
        self.dirty = False
        self.taken.append((round(self.clock.monotonic() - self.began, 3), consistent))
        return self.cost


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    task = asyncio.ensure_future(rig.schedule.run())
    await rig.clock.settle()
    yield rig
    task.cancel()
    await asyncio.wait((task,))


async def test_a_change_is_saved_after_the_quiet_time(rig: Rig) -> None:
    rig.hint.set()
    await rig.clock.advance(0.4)
    assert rig.taken == []
    await rig.clock.advance(0.2)
    assert rig.taken == [(0.5, False)]


async def test_unceasing_changes_are_saved_after_the_longest_delay(rig: Rig) -> None:
    for _ in range(20):
        rig.hint.set()
        await rig.clock.advance(0.1)
    assert rig.taken[0] == (1.5, False)


async def test_nothing_is_taken_while_nothing_changes_though_the_walk_looks(rig: Rig) -> None:
    await rig.clock.advance(600)
    assert rig.taken == []
    assert rig.walks == 300


async def test_the_walk_finds_what_the_watcher_missed(rig: Rig) -> None:
    rig.dirty = True
    await rig.clock.advance(2.1)
    assert len(rig.taken) == 1


async def test_a_costly_snapshot_makes_the_next_one_wait(rig: Rig) -> None:
    rig.cost = 0.4
    rig.hint.set()
    await rig.clock.advance(0.6)
    rig.hint.set()
    await rig.clock.advance(7.5)
    assert len(rig.taken) == 1
    await rig.clock.advance(1.0)
    assert [at for at, _ in rig.taken] == [0.5, 9.0]


async def test_a_failed_snapshot_is_tried_again_with_growing_pauses(rig: Rig) -> None:
    rig.errors = [StoreUnavailable("gone") for _ in range(3)]
    rig.hint.set()
    await rig.clock.advance(20)
    assert rig.failures == ["bucket-unavailable"] * 3
    assert len(rig.taken) == 1
    assert rig.successes > 0


async def test_what_failed_is_pending_until_it_is_saved(rig: Rig) -> None:
    rig.errors = [StoreUnavailable("gone")]
    rig.hint.set()
    await rig.clock.advance(0.6)
    assert rig.schedule.pending
    await rig.clock.advance(5)
    assert not rig.schedule.pending


async def test_a_consistent_snapshot_is_due_once_in_its_interval(rig: Rig) -> None:
    rig.hint.set()
    await rig.clock.advance(899)
    assert [consistent for _, consistent in rig.taken] == [False]
    await rig.clock.advance(10)
    assert [consistent for _, consistent in rig.taken] == [False, True]
    await rig.clock.advance(3600)
    assert len(rig.taken) == 2, "what is saved consistently already is not saved again"


async def test_being_fenced_ends_the_schedule() -> None:
    rig = Rig()
    rig.errors = [Fenced("superseded")]
    rig.hint.set()
    task = asyncio.ensure_future(rig.schedule.run())
    await rig.clock.advance(1)
    with pytest.raises(Fenced):
        await task
