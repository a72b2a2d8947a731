"""A bucket in memory, for tests and for the simulation: the meaning of the real ones, and deterministic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from supervisor.clock import Clock, SystemClock
from supervisor.errors import BucketNotFound, ObjectNotFound, PreconditionFailed
from supervisor.store.keys import check_key, check_prefix, check_range, check_size
from supervisor.store.protocol import ObjectInfo, StoredObject


@dataclass(frozen=True, slots=True)
class _Version:
    data: bytes
    etag: str
    modified: float


class MemoryStore:
    """Objects in a dictionary. Writers share a bucket by sharing the store; closing it forgets nothing.

    Every operation takes effect at one instant, after giving way to the loop once, so that the interleavings
    of a real network are possible and yet the same on every run.

    Args:
        name: shown in the URL.
        clock: dates the objects.
    """

    def __init__(self, name: str = "memory", *, clock: Clock | None = None) -> None:
        self._name = name
        self._clock = clock or SystemClock()
        self._objects: dict[str, _Version] = {}
        self._writes = 0
        self._exists = True

    def __repr__(self) -> str:
        return f"MemoryStore({self.url!r}, {len(self._objects)} objects)"

    @property
    def url(self) -> str:
        return f"memory://{self._name}"

    def remove_bucket(self) -> None:
        """Let the bucket itself vanish, as an operator may: every later operation raises `BucketNotFound`."""
        self._exists = False

    async def get(self, key: str, *, limit: int | None = None) -> StoredObject:
        await self._turn(key)
        found = self._found(key)
        check_size(key, len(found.data), limit)
        return StoredObject(found.data, found.etag)

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        check_range(key, start, end)
        await self._turn(key)
        return self._found(key).data[start:end]

    async def stat(self, key: str) -> ObjectInfo:
        await self._turn(key)
        return self._info(key, self._found(key))

    async def put(self, key: str, data: bytes) -> str:
        await self._turn(key)
        return self._write(key, data)

    async def put_if_absent(self, key: str, data: bytes) -> str:
        await self._turn(key)
        if key in self._objects:
            raise PreconditionFailed(f"object {key!r} exists already in {self.url}")
        return self._write(key, data)

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        await self._turn(key)
        current = self._objects.get(key)
        if current is None or current.etag != etag:
            raise PreconditionFailed(f"object {key!r} in {self.url} is not the version it was expected to be")
        return self._write(key, data)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        check_prefix(prefix)
        await self._turn()
        for info in [self._info(key, self._objects[key]) for key in sorted(self._objects)]:
            if info.key.startswith(prefix):
                yield info

    async def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            await self._turn(key)
            self._objects.pop(key, None)

    async def close(self) -> None:
        """Nothing to give back."""

    async def _turn(self, key: str | None = None) -> None:
        if key is not None:
            check_key(key)
        await asyncio.sleep(0)
        if not self._exists:
            raise BucketNotFound(f"the bucket {self.url} does not exist")

    def _found(self, key: str) -> _Version:
        found = self._objects.get(key)
        if found is None:
            raise ObjectNotFound(f"there is no object {key!r} in {self.url}")
        return found

    def _write(self, key: str, data: bytes) -> str:
        self._writes += 1
        etag = f"{self._writes:x}"
        self._objects[key] = _Version(bytes(data), etag, self._clock.time())
        return etag

    @staticmethod
    def _info(key: str, version: _Version) -> ObjectInfo:
        return ObjectInfo(key, len(version.data), version.etag, version.modified)
