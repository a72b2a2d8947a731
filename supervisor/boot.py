"""The first half second: signal handlers, then the port, then everything that is slow to import.

Platforms kill a container that has not bound its port in time, and a restore may take longer than that. So this
module imports next to nothing; `app` and what hangs on it are imported in a thread while the port answers already.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import TYPE_CHECKING

from supervisor.clock import SystemClock
from supervisor.errors import ExitCode, MoltinitError
from supervisor.http.early import EarlyResponder, listen
from supervisor.init.signals import Signals
from supervisor.phases import Timeline
from supervisor.settings import Settings

if TYPE_CHECKING:
    from supervisor import app


def seconds_since_exec() -> float:
    """How long this process exists already, from its start time in /proc (proc_pid_stat(5): field 22, in ticks)."""
    import os

    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


def run(settings: Settings) -> int:
    """Live one life; returns the exit code. Raises `MoltinitError` where it cannot even begin."""
    signals = Signals()
    signals.install()
    try:
        return asyncio.run(_run(settings, signals))
    finally:
        signals.release()


async def _run(settings: Settings, signals: Signals) -> int:
    signals.attach(asyncio.get_running_loop())
    clock = SystemClock()
    timeline = Timeline(clock, clock.monotonic() - seconds_since_exec())
    listener = listen(settings.listen_host, settings.listen_port)
    early = EarlyResponder(listener, lambda: timeline.phase.value)
    early.start()
    try:
        rest: app = await asyncio.to_thread(importlib.import_module, "supervisor.app")  # type: ignore[valid-type]
        code: int = await rest.live(settings, signals, clock, timeline, early)  # type: ignore[attr-defined]
        return code
    finally:
        listener.close()


__all__ = ["ExitCode", "MoltinitError", "run"]
