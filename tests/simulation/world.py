"""A bucket that everybody sees, the bad network between each actor and it, and a judge who sees every write.

The judge holds what must be true at every instant, whatever the network and the killer do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

from supervisor.errors import PreconditionFailed, StoreUnavailable
from supervisor.snapshot import format as fmt
from supervisor.snapshot.format import Head
from supervisor.store.memory import MemoryStore
from supervisor.store.protocol import ObjectInfo, StoredObject
from tests.simulation.loop import LoopClock


class Judge(MemoryStore):
    """The bucket itself. Raises `AssertionError` the moment that an invariant is broken."""

    def __init__(self, trace: list[str]) -> None:
        super().__init__("simulation", clock=LoopClock())
        self.trace = trace
        self.head: Head | None = None
        self.committed: dict[str, fmt.SnapshotRecord] = {}
        self.manifests: dict[str, fmt.Manifest] = {}

    def _write(self, key: str, data: bytes) -> str:
        assert key == fmt.HEAD_KEY or key not in self._objects or self._objects[key].data == data, (
            f"{key} written twice"
        )
        if key == fmt.HEAD_KEY:
            self._judge(fmt.decode_head(data))
        elif key.startswith((fmt.MANIFEST_PREFIX, fmt.RESCUE_PREFIX)):
            self.manifests[key] = fmt.decode_manifest(data, key)
        self.trace.append(f"{asyncio.get_running_loop().time():.3f} {key} {len(data)}")
        return super()._write(key, data)

    def _judge(self, head: Head) -> None:
        before = self.head
        if before is not None:
            assert head.epoch in (before.epoch, before.epoch + 1), "epochs rise by one"
            assert head.sequence >= before.sequence, "sequences only rise"
            assert head.repository == before.repository
            if head.epoch == before.epoch:
                assert head.writer == before.writer, "one writer to an epoch"
        known = {record.manifest for record in before.snapshots} if before else set()
        for record in head.snapshots:
            if record.manifest not in known:
                assert record.epoch == head.epoch, "nobody commits after the fence"
                assert record.sequence == head.sequence, "the newest comes last"
                self._is_whole(record.manifest)
                self.committed[record.manifest] = record
        assert [r.sequence for r in head.snapshots] == sorted({r.sequence for r in head.snapshots})
        if before is not None and before.snapshots:
            assert head.snapshots, "a history is never emptied"
        self.head = head

    def _is_whole(self, manifest: str) -> None:
        assert manifest in self._objects, f"{manifest} is referred to and missing"
        for pack in self.manifests[manifest].packs:
            assert fmt.pack_key(pack.id) in self._objects, f"pack {pack.id} of {manifest} is missing"

    def retained(self) -> set[str]:
        """All manifests that must be restorable now."""
        named = {record.manifest for record in self.head.snapshots} if self.head else set()
        return named | {key for key in self._objects if key.startswith(fmt.RESCUE_PREFIX)}

    async def delete(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        needed = {fmt.pack_key(pack.id) for name in self.retained() for pack in self.manifests[name].packs}
        for key in keys:
            assert key not in needed, f"{key} is referred to and deleted"
            assert not key.startswith(fmt.MANIFEST_PREFIX) or key not in self.retained(), f"{key} is retained"
            self.trace.append(f"{asyncio.get_running_loop().time():.3f} delete {key}")
        await super().delete(keys)

    def everything_is_whole(self) -> None:
        """At the end, too."""
        for manifest in self.retained():
            self._is_whole(manifest)


@dataclass
class Weather:
    """How bad the network is: shares of all requests, and seconds."""

    fail: float = 0.05
    lose: float = 0.05
    twice: float = 0.03
    slow: float = 2.0


class Network:
    """One actor's way to the bucket: requests are late, fail, lose their answers, or arrive twice; a frozen actor's
    do nothing until it is let go on."""

    def __init__(self, bucket: Judge, dice: Random, weather: Weather) -> None:
        self._bucket = bucket
        self._dice = dice
        self.weather = weather
        self.frozen_until = 0.0

    @property
    def url(self) -> str:
        return self._bucket.url

    async def _send(self, work: Any, *, repeat: Any = None) -> Any:
        await self._delay()
        if self._dice.random() < self.weather.fail:
            raise StoreUnavailable("the request was lost")
        result = await work()
        if repeat is not None and self._dice.random() < self.weather.twice:
            try:
                await repeat()
            except PreconditionFailed:
                raise PreconditionFailed("the second delivery met the first") from None
        await self._delay()
        if self._dice.random() < self.weather.lose:
            raise StoreUnavailable("the answer was lost")
        return result

    async def _delay(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._dice.random() ** 3 * self.weather.slow)
        while self.frozen_until > loop.time():  # noqa: ASYNC110
            await asyncio.sleep(self.frozen_until - loop.time())

    async def get(self, key: str, *, limit: int | None = None) -> StoredObject:
        found: StoredObject = await self._send(lambda: self._bucket.get(key, limit=limit))
        return found

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        data: bytes = await self._send(lambda: self._bucket.get_range(key, start, end))
        return data

    async def stat(self, key: str) -> ObjectInfo:
        info: ObjectInfo = await self._send(lambda: self._bucket.stat(key))
        return info

    async def put(self, key: str, data: bytes) -> str:
        write = lambda: self._bucket.put(key, data)  # noqa: E731
        etag: str = await self._send(write, repeat=write)
        return etag

    async def put_if_absent(self, key: str, data: bytes) -> str:
        write = lambda: self._bucket.put_if_absent(key, data)  # noqa: E731
        etag: str = await self._send(write, repeat=write)
        return etag

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        write = lambda: self._bucket.replace(key, data, etag=etag)  # noqa: E731
        new: str = await self._send(write, repeat=write)
        return new

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        found = await self._send(lambda: self._all(prefix))
        for info in found:
            yield info

    async def _all(self, prefix: str) -> list[ObjectInfo]:
        return [info async for info in self._bucket.list(prefix)]

    async def delete(self, keys: Iterable[str]) -> None:
        wanted = list(keys)
        await self._send(lambda: self._bucket.delete(wanted))

    async def close(self) -> None:
        """Nothing to give back."""
