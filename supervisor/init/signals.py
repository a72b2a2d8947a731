"""Signals from the first moment of the process on: recorded without an event loop, delivered with one.

PID 1 has no default dispositions: the kernel drops every signal that has no handler. So handlers are
installed before anything slow happens, and a stop that arrives during the imports is waiting when the event
loop starts.

| signal | meaning |
| --- | --- |
| TERM, INT, QUIT, PWR | stop; a second one, later, makes it urgent |
| USR2 | take a snapshot now |
| HUP, USR1 | swallowed: forwarded, HUP would kill the gateway and USR1 would open its debugger |
| CHLD | somebody died: look for orphans |
| PIPE | ignored |
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from types import FrameType

from supervisor.init.events import EventLog, NoLog

STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGPWR)
SWALLOWED = (signal.SIGHUP, signal.SIGUSR1)
HANDLED = (*STOP, *SWALLOWED, signal.SIGUSR2, signal.SIGCHLD)

SAME_STOP_SECONDS = 0.5
"""Stop signals this close together are one request: a terminal and a wrapper (`make`, `uv run`) each send
theirs."""


class Signals:
    """The process's signal handlers; at most one instance is installed at a time, from the main thread.

    `stop_requested` and `urgent` are set in the event loop, or at once where there is none yet.
    """

    def __init__(self, log: EventLog | None = None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.stop_requested = asyncio.Event()
        self.urgent = asyncio.Event()
        self._log: EventLog = NoLog() if log is None else log
        self._monotonic = monotonic
        self._first_stop: float | None = None
        self._arrived: Counter[int] = Counter()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._previous: dict[int, signal._HANDLER] = {}
        self._previous_wakeup = -1
        self._pipe: tuple[int, int] | None = None
        self._scheduled = False
        self._on_snapshot: Callable[[], None] | None = None
        self._on_child: Callable[[], None] | None = None

    def install(self) -> None:
        """Take over the signals. Cheap, and needs no event loop: call it first of all."""
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # The pipe only wakes the event loop; what arrived is counted by the handler, so a full pipe loses
        # nothing.
        self._previous_wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        for number in HANDLED:
            self._previous[number] = signal.signal(number, self._handle)
        self._previous[signal.SIGPIPE] = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        # A mask is inherited across exec: whoever started this process may have left signals blocked.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver into this loop from now on, beginning with what has arrived already."""
        if self._pipe is None:
            raise RuntimeError("the signal handlers must be installed before a loop is attached")
        loop.add_reader(self._pipe[0], self._empty_pipe)
        self._loop = loop
        self._deliver()

    def release(self) -> None:
        """Give the signals back to whoever had them before; a second call does nothing."""
        if self._pipe is None:
            return
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(self._previous_wakeup)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._pipe[0])
        for end in self._pipe:
            os.close(end)
        self._pipe, self._loop = None, None
        self._previous.clear()

    async def wait_stop(self) -> None:
        """Until a stop is requested; returns at once where one was before."""
        await self.stop_requested.wait()

    def on_snapshot(self, callback: Callable[[], None] | None) -> None:
        """What USR2 calls, in the event loop."""
        self._on_snapshot = callback

    def on_child(self, callback: Callable[[], None] | None) -> None:
        """What a child's death calls, in the event loop; deaths close together are one call."""
        self._on_child = callback

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._arrived[number] += 1
        if number in STOP:
            self._note_stop()
        # This runs between any two bytecodes of the main thread, so the rest is left to the loop.
        if self._loop is not None and not self._scheduled and not self._loop.is_closed():
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _note_stop(self) -> None:
        now = self._monotonic()
        if self._first_stop is None:
            self._first_stop = now
            if self._loop is None:
                self.stop_requested.set()
        elif now - self._first_stop >= SAME_STOP_SECONDS:
            self._arrived[0] += 1  # no signal has number 0: it stands for "urgent"
            if self._loop is None:
                self.urgent.set()

    def _deliver(self) -> None:
        self._scheduled = False
        arrived, self._arrived = self._arrived, Counter()
        for number in STOP:
            if arrived[number]:
                self._log.info("stop requested", signal=signal.Signals(number).name, urgent=bool(arrived[0]))
                self.stop_requested.set()
        if arrived[0]:
            self.urgent.set()
        for number in SWALLOWED:
            if arrived[number]:
                self._log.info("signal ignored", signal=signal.Signals(number).name, count=arrived[number])
        if arrived[signal.SIGUSR2] and self._on_snapshot is not None:
            self._on_snapshot()
        if arrived[signal.SIGCHLD] and self._on_child is not None:
            self._on_child()

    def _empty_pipe(self) -> None:
        if self._pipe is not None:
            os.read(self._pipe[0], 65536)
