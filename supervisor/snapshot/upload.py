"""Packs on their way to the bucket while more of them are being built: a few at a time, so that memory stays bounded
and the reading thread waits for the network rather than the other way round."""

from __future__ import annotations

import asyncio
import threading

from supervisor.concurrency import cause
from supervisor.snapshot.format import pack_key
from supervisor.snapshot.tree import Pack
from supervisor.store.protocol import Store

PACKS_IN_FLIGHT = 4
"""Four packs of 8 MiB saturate a link of 1 Gbit/s at 30 ms round trips, within 40 MiB of memory."""


class UploadAborted(Exception):
    """Raised in the building thread when the upload has failed or was cancelled; the reason is raised in the loop."""


class PackUploads:
    """Use as an asynchronous context around the building thread; leaving it waits for every upload."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._slots = asyncio.Semaphore(PACKS_IN_FLIGHT)
        self._loop = asyncio.get_running_loop()
        self._group = asyncio.TaskGroup()
        self._aborted = threading.Event()
        self.bytes = 0
        self.packs = 0

    async def __aenter__(self) -> PackUploads:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._aborted.set()
        try:
            await self._group.__aexit__(type(error) if error else None, error, error.__traceback__ if error else None)
        except BaseExceptionGroup as errors:
            raise _cause(errors) from None

    def emit(self, pack: Pack, data: bytes) -> None:
        """Hand over a pack from the building thread; waits while too many are under way. Raises `UploadAborted`."""
        if self._aborted.is_set():
            raise UploadAborted
        handed = asyncio.run_coroutine_threadsafe(self._start(pack, data), self._loop)
        while True:
            try:
                handed.result(timeout=0.5)
            except TimeoutError:
                if self._aborted.is_set():
                    handed.cancel()
                    raise UploadAborted from None
            except BaseException as error:
                raise UploadAborted from error
            else:
                return

    async def _start(self, pack: Pack, data: bytes) -> None:
        await self._slots.acquire()
        if self._aborted.is_set():
            raise UploadAborted
        self._group.create_task(self._put(pack, data))

    async def _put(self, pack: Pack, data: bytes) -> None:
        try:
            await self._store.put(pack_key(pack.id), data)
            self.bytes += len(data)
            self.packs += 1
        except BaseException:
            self._aborted.set()
            raise
        finally:
            self._slots.release()

    def put_soon(self, key: str, data: bytes) -> asyncio.Task[str]:
        """Store another object at the same time as the packs."""
        self.bytes += len(data)
        return self._group.create_task(self._store.put(key, data))


def _cause(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Why the upload failed: what the building thread raised because of it says nothing."""
    told = errors.subgroup(lambda error: not isinstance(error, UploadAborted))
    return cause(told or errors)
