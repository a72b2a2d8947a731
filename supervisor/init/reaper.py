"""Orphans: adopted, waited for, and never confused with children that somebody here waits for.

`waitpid(-1)` would steal the exit codes of the supervisor's own children. So a zombie is looked at first, and
reaped only when it is certainly nobody's: not registered, not of our own session (every supervised child
leads a session of its own, so what it leaves behind can never be in ours), and still there a moment later.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress

from supervisor.init.processes import Process, own_children

PR_SET_CHILD_SUBREAPER = 36
"""prctl(2): orphans among the descendants are reparented to this process instead of to PID 1."""


class Children:
    """The pids that somebody in this process waits for."""

    def __init__(self) -> None:
        self._pids: set[int] = set()

    def add(self, pid: int) -> None:
        """Somebody waits for this pid; to be called before control goes back to the event loop after a
        fork."""
        self._pids.add(pid)

    def discard(self, pid: int) -> None:
        """It has been waited for."""
        self._pids.discard(pid)

    def __contains__(self, pid: object) -> bool:
        return pid in self._pids


class Reaper:
    """Reaps orphans in the event loop's thread.

    Args:
        children: whom not to touch.
        patience: seconds that a zombie has to be seen for, so that a `subprocess` call in another thread,
            which did not register its child, can collect it.
        pause: least seconds between two looks, so that a storm of deaths costs no more than a trickle.
        safety: a look is taken this often (seconds) even without SIGCHLD.
    """

    def __init__(
        self,
        children: Children,
        *,
        patience: float = 0.5,
        pause: float = 0.1,
        safety: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reaped = 0
        self._children = children
        self._patience = patience
        self._pause = pause
        self._safety = safety
        self._monotonic = monotonic
        self._first_seen: dict[tuple[int, int], float] = {}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Somebody died: look soon. For `Signals.on_child`."""
        self._woken.set()

    async def run(self) -> None:
        """Reap until cancelled."""
        while True:
            self.sweep()
            await asyncio.sleep(self._pause)
            with suppress(TimeoutError):
                # Zombies under observation are looked at again without another signal.
                async with asyncio.timeout(self._patience if self._first_seen else self._safety):
                    await self._woken.wait()
            self._woken.clear()

    def sweep(self, *, patience: float | None = None) -> int:
        """Reap what is ripe; returns how many. `patience=0` is for the end of life, when nobody waits any
        more."""
        if not _somebody_died():
            self._first_seen.clear()
            return 0
        now = self._monotonic()
        limit = self._patience if patience is None else patience
        orphans = [child for child in own_children() if child.state == "Z" and self._is_nobodys(child)]
        seen = {(child.pid, child.start_ticks): child for child in orphans}
        self._first_seen = {key: self._first_seen.get(key, now) for key in seen}
        ripe = [key for key, since in self._first_seen.items() if now - since >= limit]
        for key in ripe:
            del self._first_seen[key]
            with suppress(ChildProcessError):  # collected meanwhile by a thread that waited for it after all
                os.waitpid(key[0], os.WNOHANG)
                self.reaped += 1
        return len(ripe)

    def _is_nobodys(self, child: Process) -> bool:
        return child.pid not in self._children and child.session != os.getsid(0)


def _somebody_died() -> bool:
    # One cheap call tells that there is no zombie at all; WNOWAIT leaves one as it is.
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def adopt_orphans() -> bool:
    """Make orphans among our descendants come to this process; PID 1 gets them anyway. False: the kernel
    refused."""
    if os.getpid() == 1:
        return True
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
