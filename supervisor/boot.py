"""The first half second: signal handlers, then the port, then everything that is slow to import.

Platforms kill a container that has not bound its port in time, and a restore may take longer than that. So this
module imports next to nothing; `app` and what hangs on it are imported in a thread while the port answers already.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import time
from types import ModuleType

from supervisor.clock import SystemClock
from supervisor.http.early import EarlyResponder, listen
from supervisor.init.cell.harden import harden
from supervisor.init.notify import Notifier
from supervisor.init.signals import Signals
from supervisor.phases import Timeline
from supervisor.settings import Settings, secret_names


def run(settings: Settings) -> int:
    """Live one life; returns the exit code. Raises `MoltinitError` where it cannot even begin."""
    harden(secret_names())
    signals = Signals()
    signals.install()
    try:
        return asyncio.run(_run(settings, signals))
    finally:
        signals.release()


async def _run(settings: Settings, signals: Signals) -> int:
    signals.attach(asyncio.get_running_loop())
    clock = SystemClock()
    timeline = Timeline(clock, clock.monotonic() - _seconds_since_exec())
    listener = listen(settings.listen_host, settings.listen_port)
    early = EarlyResponder(listener, lambda: timeline.phase.value)
    early.start()
    notifier = Notifier.take_from(os.environ, os.getpid())
    try:
        log_module, app = await asyncio.to_thread(_import_the_rest)
        mask = log_module.Mask(settings.secrets())
        log = log_module.configure(output=settings.log_format, level=settings.log_level, mask=mask)
        code: int = await app.live(
            settings,
            signals=signals,
            clock=clock,
            timeline=timeline,
            early=early,
            notifier=notifier,
            log=log,
            mask=mask,
        )
        return code
    finally:
        listener.close()
        notifier.close()


def _import_the_rest() -> tuple[ModuleType, ModuleType]:
    return importlib.import_module("supervisor.log"), importlib.import_module("supervisor.app")


def _seconds_since_exec() -> float:
    """How long this process exists, from its start in clock ticks since the machine's (proc_pid_stat(5), field 22)."""
    with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
