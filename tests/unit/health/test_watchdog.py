from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap

import pytest

from supervisor.errors import ExitCode
from supervisor.health.watchdog import Watchdog
from tests.support.clock import FakeClock


class Hands:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def watched(hands: Hands) -> Watchdog:
    return Watchdog(FakeClock(), stall_seconds=10, pat_seconds=1, monotonic=hands)


def test_a_loop_that_pats_is_left_alone() -> None:
    hands = Hands()
    dog = watched(hands)
    for _ in range(100):
        hands.now += 1
        dog.pat()
        assert dog.look() is None


def test_a_loop_that_stands_still_for_too_long_is_told_with_its_seconds() -> None:
    hands = Hands()
    dog = watched(hands)
    seen = []
    for _ in range(12):
        hands.now += 1
        seen.append(dog.look())
    assert seen[:10] == [None] * 10
    assert seen[10] == 11


def test_a_machine_that_was_frozen_is_not_mistaken_for_a_loop_that_hangs() -> None:
    hands = Hands()
    dog = watched(hands)
    hands.now += 3600
    assert dog.look() is None
    for _ in range(10):
        hands.now += 1
        assert dog.look() is None
    hands.now += 1
    assert dog.look() == 11


async def test_every_pat_is_passed_on_and_the_thread_ends_with_the_loop() -> None:
    clock, pats = FakeClock(), []
    dog = Watchdog(clock, on_pat=lambda: pats.append(clock.monotonic()), pat_seconds=1)
    task = asyncio.ensure_future(dog.run())
    await clock.advance(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(pats) == 5


def test_a_process_whose_loop_hangs_ends_with_its_stacks_on_stderr() -> None:
    program = """
        import asyncio, time
        from supervisor.clock import SystemClock
        from supervisor.health.watchdog import Watchdog

        def hang_for_ever():
            while True:
                time.sleep(0.05)

        async def main():
            dog = Watchdog(SystemClock(), stall_seconds=0.5, pat_seconds=0.1)
            task = asyncio.ensure_future(dog.run())
            await asyncio.sleep(0.2)
            hang_for_ever()

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == ExitCode.STALLED
    assert "hang_for_ever" in done.stderr
