"""Ending processes that are still there and should not be: TERM, a short while, KILL, until none is left."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from supervisor.init.processes import Process, descendants, process_table, send_signal

Find = Callable[[], Collection[Process]]


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of the strays: how many were asked to go, how many of them had to be killed, and which are
    left (in an uninterruptible sleep, or owned by a user that we may not signal)."""

    asked: int = 0
    killed: int = 0
    left: tuple[int, ...] = ()


async def end_strays(*, reap: Callable[[], object], term_seconds: float = 2.0, kill_seconds: float = 2.0) -> Ended:
    """End every other process that is ours: as PID 1 all of the PID namespace, else all descendants.

    For the very end of life. Children that somebody still waits for are ended as well.

    Args:
        reap: collects zombies that nobody waits for; called while waiting.
        term_seconds: time to go after SIGTERM.
        kill_seconds: time to vanish after SIGKILL.
    """
    ended = await end(strays, reap=reap, term_seconds=term_seconds, kill_seconds=kill_seconds)
    if ended.left and os.getpid() == 1:
        # As PID 1, -1 is the whole namespace in one step of the kernel: no fork can run away from it.
        os.kill(-1, signal.SIGKILL)
        left = await _wait_gone(strays, reap, kill_seconds)
        ended = Ended(ended.asked, ended.killed + len(ended.left) - len(left), tuple(row.pid for row in left))
    return ended


def strays() -> list[Process]:
    """What `end_strays` would end."""
    table = process_table()
    me = os.getpid()
    pids = set(table) - {me} if me == 1 else descendants(me, table)
    # A child in our own session is part of this program and ends with it (a process that copies databases for the last
    # snapshot); the agent, and all that it starts, is in others.
    own = os.getsid(0)
    return [
        row
        for row in (table[pid] for pid in pids)
        if row.alive and not row.kernel and not (row.parent == me and row.session == own)
    ]


async def end(find: Find, *, reap: Callable[[], object], term_seconds: float, kill_seconds: float) -> Ended:
    """End what `find` returns, and what it returns later on: a dying process may still fork.

    The time is the machine's, not an injected clock's: this waits for the kernel.
    """
    found = find()
    if not found:
        return Ended()
    asked = _signal_all(found, signal.SIGTERM, signal.SIGCONT)
    left = await _wait_gone(find, reap, term_seconds)
    killed: set[int] = set()
    deadline = asyncio.get_running_loop().time() + kill_seconds
    while left and asyncio.get_running_loop().time() < deadline:
        killed |= _signal_all(left, signal.SIGKILL)
        left = await _wait_gone(find, reap, 0.1)
    return Ended(len(asked | killed), len(killed), tuple(row.pid for row in left))


async def _wait_gone(find: Find, reap: Callable[[], object], seconds: float) -> Collection[Process]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    pause = 0.005
    while True:
        reap()
        left = find()
        if not left or loop.time() >= deadline:
            return left
        await asyncio.sleep(min(pause, max(0.0, deadline - loop.time())))
        pause = min(pause * 2, 0.1)


def _signal_all(rows: Collection[Process], *numbers: signal.Signals) -> set[int]:
    reached: set[int] = set()
    for row in rows:
        with suppress(PermissionError):  # a set-uid program in a development setup: it shows up in `left`
            for number in numbers:
                if send_signal(row, number):
                    reached.add(row.pid)
    return reached
