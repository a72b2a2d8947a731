"""Opening the front door: from the early responder to the whole server, on one socket that never stops listening."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from structlog.typing import FilteringBoundLogger

from supervisor.http.early import EarlyResponder

if TYPE_CHECKING:
    from supervisor.http.server import FrontDoor


class Doors:
    """Made closed; `open` may be called once.

    Args:
        build: makes the front door; called when its modules are imported.
    """

    def __init__(self, early: EarlyResponder, build: Callable[[], FrontDoor], log: FilteringBoundLogger) -> None:
        self._early = early
        self._build = build
        self._log = log
        self._front: FrontDoor | None = None
        self.opened = asyncio.Event()

    async def open(self) -> None:
        """Import the server, start it, and hand the socket over."""
        await asyncio.to_thread(importlib.import_module, "supervisor.http.server")
        self._front = self._build()
        await self._front.start(self._early.hand_over())
        await self._early.finished()
        self.opened.set()

    async def close(self) -> None:
        """Stop serving."""
        if self._front is not None:
            await self._front.stop()
            self._front = None
        else:
            self._early.hand_over()
            await self._early.finished()
