"""Task groups that fail with one error: the cause, not a group of it and of what it brought down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """`asyncio.TaskGroup`, but the first failure leaves it as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        raise cause(errors) from None


def cause(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group that is no group itself."""
    first = errors.exceptions[0]
    return cause(first) if isinstance(first, BaseExceptionGroup) else first
