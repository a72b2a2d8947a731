"""A gateway that is held still, and goes on when the time is up, whoever holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Hold:
    """True while it lasts. `resume` is awaited once: at the deadline, or at the end if that is earlier.

    Args:
        deadline: in the running loop's time.
        resume: lets the agent go on.
    """

    def __init__(self, deadline: float, resume: Callable[[], Awaitable[None]]) -> None:
        self._deadline = deadline
        self._resume = resume
        self._lasts = True
        self._ended = asyncio.Event()
        self._task = asyncio.create_task(self._until_ended())

    def __bool__(self) -> bool:
        return self._lasts

    async def end(self) -> None:
        """Returns when the agent may go on."""
        self._ended.set()
        await self._task

    async def _until_ended(self) -> None:
        try:
            async with asyncio.timeout_at(self._deadline):
                await self._ended.wait()
        except TimeoutError:
            pass  # the snapshot goes on, and counts as taken of a live agent
        self._lasts = False
        await self._resume()
