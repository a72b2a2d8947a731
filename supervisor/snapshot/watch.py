"""A hint that something below a directory changed. Only a hint: watchers miss files in fresh directories, drop events
when their queue is full, and end at a name that is not UTF-8. What changed is found by walking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from supervisor.clock import Clock
from supervisor.snapshot.rules import SkipRules

RETRY_LEAST, RETRY_MOST = 1.0, 60.0
"""Seconds before watching again after the watcher ended, doubling while it ends at once."""


async def watch(
    root: Path,
    rules: SkipRules,
    changed: asyncio.Event,
    *,
    clock: Clock,
    failed: Callable[[Exception], None],
) -> None:
    """Set `changed` whenever something that is not skipped may have changed; runs until it is cancelled.

    `failed` is told when watching is not possible (limits, rights): the timed walk goes on without it.
    """
    import watchfiles

    prefix = len(str(root)) + 1

    def wanted(change: watchfiles.Change, path: str) -> bool:
        name = path[prefix:]
        return bool(name) and not rules.skips(name, is_directory=False)

    pause = RETRY_LEAST
    while True:
        began = clock.monotonic()
        try:
            async for _ in watchfiles.awatch(
                root, watch_filter=wanted, debounce=100, step=50, ignore_permission_denied=True
            ):
                changed.set()
        except (OSError, RuntimeError, ExceptionGroup) as error:
            failed(error)
        await clock.sleep(pause)
        # Whatever happened while nobody watched.
        changed.set()
        pause = min(pause * 2, RETRY_MOST) if clock.monotonic() - began < RETRY_MOST else RETRY_LEAST
