"""A hint that something below a directory changed. Only a hint: watchers miss files in fresh directories, drop events
when their queue is full, and end at a name that is not UTF-8. What changed is found by walking.

Directories are watched one by one, as a walk that follows no link has found them: a watcher that descends by itself
follows links to directories, and one to `/` would keep it, and the event loop that waits for it, busy for minutes.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path

from supervisor.clock import Clock
from supervisor.snapshot.rules import SkipRules
from supervisor.snapshot.scan import scan

RETRY_LEAST, RETRY_MOST = 1.0, 60.0
"""Seconds before watching again after the watcher ended, doubling while it ends at once."""

RENEW_SECONDS = 0.5
"""Between two renewals of the list of directories: a program that is being installed makes thousands of them."""


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
    pause = RETRY_LEAST
    while True:
        began = clock.monotonic()
        try:
            await _until_a_new_directory(root, rules, changed)
        except FileNotFoundError as error:
            if not root.is_dir():
                failed(error)
                pause = await _rest(pause, began, clock)
            else:  # a directory went between the walk and the watch
                await clock.sleep(RENEW_SECONDS)
        except (OSError, RuntimeError, ExceptionGroup) as error:
            failed(error)
            pause = await _rest(pause, began, clock)
        else:
            await clock.sleep(RENEW_SECONDS)
        # Whatever happened while nobody watched.
        changed.set()


async def _rest(pause: float, began: float, clock: Clock) -> float:
    """Wait; returns how long to wait next time."""
    await clock.sleep(pause)
    return min(pause * 2, RETRY_MOST) if clock.monotonic() - began < RETRY_MOST else RETRY_LEAST


async def _until_a_new_directory(root: Path, rules: SkipRules, changed: asyncio.Event) -> None:
    import watchfiles

    prefix = len(str(root)) + 1

    def wanted(change: watchfiles.Change, path: str) -> bool:
        name = path[prefix:]
        return bool(name) and not rules.skips(name, is_directory=False)

    directories = await asyncio.to_thread(_directories, root, rules)
    async for changes in watchfiles.awatch(
        *directories, watch_filter=wanted, debounce=100, step=50, recursive=False, ignore_permission_denied=True
    ):
        changed.set()
        if any(change is watchfiles.Change.added and _is_directory(path) for change, path in changes):
            return


def _directories(root: Path, rules: SkipRules) -> list[Path]:
    found = scan(root, rules).found
    # A name that is not UTF-8 cannot be watched.
    names = [path for path, item in found.items() if item.is_directory and _is_utf8(path)]
    return [root, *(root / name for name in names)]


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except OSError:
        return False
