"""The last resort: an event loop that has stopped answers nobody, and cannot even say so.

A thread looks whether the loop still pats it. Where it has not for too long, the stacks of all threads are written out,
and the process ends, so that the platform starts the next life. What was committed is safe; the rest is what a loop
that does nothing could not have saved either.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

from supervisor.clock import Clock
from supervisor.errors import ExitCode

PAT_SECONDS = 1.0
STALL_SECONDS = 60.0
"""No work of the loop takes so long; a machine that is merely slow gets the benefit of the doubt."""


class Watchdog:
    """Pats come from `run` in the loop; the looking is done by a thread of its own.

    Args:
        on_pat: called in the loop with every pat (a service manager's own watchdog).
        bite: ends the process; called in the thread, once.
        monotonic: seconds; frozen while the machine is suspended or not.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        on_pat: Callable[[], None] = lambda: None,
        bite: Callable[[float], None] | None = None,
        stall_seconds: float = STALL_SECONDS,
        pat_seconds: float = PAT_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._on_pat = on_pat
        self._bite = bite or _end
        self._stall = stall_seconds
        self._pat = pat_seconds
        self._monotonic = monotonic
        self._patted = self._looked = monotonic()
        self._stopped = threading.Event()

    async def run(self) -> None:
        """Pat until cancelled."""
        self.pat()
        thread = threading.Thread(target=self._look_on, name="watchdog", daemon=True)
        thread.start()
        try:
            while True:
                await self._clock.sleep(self._pat)
                self.pat()
                self._on_pat()
        finally:
            self._stopped.set()

    def pat(self) -> None:
        """The loop works."""
        self._patted = self._monotonic()

    def look(self) -> float | None:
        """One look: for how many seconds the loop has stood still, where that is too long.

        A thread that itself was late was not alone: the whole process, or the whole machine, stood still (a frozen and
        thawed VM). The loop then gets its time anew.
        """
        now = self._monotonic()
        late = now - self._looked > 5 * self._pat
        self._looked = now
        if late:
            self._patted = now
        stalled = now - self._patted
        return stalled if stalled > self._stall else None

    def _look_on(self) -> None:
        self._looked = self._monotonic()
        while not self._stopped.wait(self._pat):
            if (stalled := self.look()) is not None:
                self._bite(stalled)
                return


def _end(stalled: float) -> None:
    """Nothing that the loop, a lock or a buffer could hold up."""
    os.write(2, f"moltinit: the event loop has not moved for {stalled:.0f} s; all stacks follow\n".encode())
    faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
    os._exit(ExitCode.STALLED)
