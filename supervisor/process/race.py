"""Waiting for the first of several things."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from supervisor.concurrency import task_group


async def first(*contenders: Coroutine[Any, Any, Any]) -> int:
    """Run all, return the position of the first that ended (the lowest, where several did), cancel the
    others.

    What a contender raises is raised here.
    """
    async with task_group() as group:
        tasks = [group.create_task(contender) for contender in contenders]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
    return min(position for position, task in enumerate(tasks) if task in done)
