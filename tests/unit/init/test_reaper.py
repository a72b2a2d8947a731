from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from supervisor.init.processes import own_children, read_process
from supervisor.init.reaper import PR_SET_CHILD_SUBREAPER, Children, Reaper, adopt_orphans
from tests.support.agents import until
from tests.support.clock import FakeClock


@pytest.fixture(autouse=True)
def subreaper() -> Iterator[None]:
    assert adopt_orphans()
    yield
    Reaper(Children()).sweep(patience=0)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def orphan() -> int:
    """The pid of a process whose parent has ended; it ends at once, and becomes a zombie of ours."""
    made = subprocess.run(
        ["sh", "-c", "setsid sh -c 'echo $$' & "],
        capture_output=True,
        text=True,
        check=True,
        start_new_session=True,
    )
    return int(made.stdout)


def zombies() -> set[int]:
    return {child.pid for child in own_children() if child.state == "Z"}


@asynccontextmanager
async def reaping(reaper: Reaper) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(reaper.run())
        try:
            yield
        finally:
            task.cancel()


async def test_an_orphan_is_reaped_after_a_moment_of_patience() -> None:
    clock = FakeClock()
    reaper = Reaper(Children(), monotonic=clock.monotonic)
    pid = orphan()
    await until(lambda: pid in zombies())
    assert reaper.sweep() == 0
    await clock.advance(0.6)
    assert reaper.sweep() == 1
    assert (reaper.reaped, read_process(pid)) == (1, None)
    assert reaper.sweep() == 0


async def test_a_registered_child_is_left_to_its_owner() -> None:
    children = Children()
    process = subprocess.Popen(["sh", "-c", "exit 9"], start_new_session=True)
    children.add(process.pid)
    await until(lambda: process.pid in zombies())
    assert Reaper(children).sweep(patience=0) == 0
    assert process.wait() == 9


async def test_a_child_of_our_own_session_is_left_to_whoever_started_it() -> None:
    process = subprocess.Popen(["sh", "-c", "exit 9"])
    await until(lambda: process.pid in zombies())
    assert Reaper(Children()).sweep(patience=0) == 0
    assert process.wait() == 9


async def test_asyncio_and_threads_keep_their_exit_codes_while_orphans_are_reaped() -> None:
    reaper = Reaper(Children(), pause=0.01, patience=0.2, safety=0.05)
    async with reaping(reaper):
        pids = [orphan() for _ in range(5)]
        for code in range(20):
            process = await asyncio.create_subprocess_exec("sh", "-c", f"exit {code}")
            threaded = await asyncio.to_thread(subprocess.run, ["sh", "-c", f"exit {code}"], start_new_session=True)
            assert (await process.wait(), threaded.returncode) == (code, code)
        await until(lambda: reaper.reaped == 5)
    assert all(read_process(pid) is None for pid in pids)


async def test_a_death_wakes_it_up_and_deaths_together_are_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    reaper = Reaper(Children(), pause=0.1, safety=60)
    looks: list[None] = []
    monkeypatch.setattr(reaper, "sweep", lambda: looks.append(None))
    async with reaping(reaper):
        await asyncio.sleep(0.15)
        assert len(looks) == 1
        for _ in range(1000):
            reaper.wake()
            await asyncio.sleep(0)
        await asyncio.sleep(0.15)
    assert 2 <= len(looks) <= 4


def test_our_orphans_come_to_us() -> None:
    pid = orphan()
    row = read_process(pid)
    assert row is not None
    assert row.parent == os.getpid()
