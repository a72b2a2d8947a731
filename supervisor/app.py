"""The one place where parts are made and put together, from `Settings`. Nothing is decided here.

This module is slow to import, on purpose: everything that it names is needed for a life, and `boot` has bound the
port before it is imported.
"""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from supervisor.clock import Clock
from supervisor.http.early import EarlyResponder
from supervisor.init.signals import Signals
from supervisor.phases import Timeline
from supervisor.settings import Settings


async def live(
    settings: Settings,
    signals: Signals,
    clock: Clock,
    timeline: Timeline,
    early: EarlyResponder,
    log: FilteringBoundLogger,
) -> int:
    """Put one life together and live it; returns the exit code."""
