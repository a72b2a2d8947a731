"""A hint that something below a directory changed. Only a hint: watchers miss files in fresh directories, drop events
when their queue is full, and end at a name that is not UTF-8. What changed is found by walking."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from supervisor.clock import Clock
from supervisor.snapshot.rules import SkipRules

RETRY_SECONDS = 10.0
"""How long to wait before watching again after the watcher ended."""


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

    while True:
        try:
            async for _ in watchfiles.awatch(
                root, watch_filter=wanted, debounce=100, step=50, ignore_permission_denied=True
            ):
                changed.set()
        except (OSError, RuntimeError, UnicodeError) as error:
            failed(error)
        changed.set()
        await clock.sleep(RETRY_SECONDS)
