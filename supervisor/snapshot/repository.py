"""HEAD, the one mutable object, and the manifests that it names: reading them, and the one way to write HEAD.

Every change is a compare-and-swap on the ETag last seen and carries a `write_id` of its own, so a lost answer is read
back and never guessed (docs/fencing.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from supervisor.clock import Clock
from supervisor.concurrency import task_group
from supervisor.errors import (
    NotFound,
    ObjectNotFound,
    ObjectTooLarge,
    PreconditionFailed,
    RepositoryError,
    UnsupportedFormat,
)
from supervisor.snapshot import format as fmt
from supervisor.snapshot.format import Head, Manifest, SnapshotRecord, Writer
from supervisor.snapshot.tree import Tree, read_trees
from supervisor.store.protocol import Store, StoredObject

HELD: Final = "held"
RELEASED: Final = "released"

_NO_ETAG: Final = f'"{"0" * 32}"'
"""No object has it."""


@dataclass(frozen=True, slots=True)
class HeadVersion:
    """HEAD as read, with the ETag that a change of it must name."""

    head: Head
    etag: str


@dataclass(frozen=True, slots=True)
class LoadedTree:
    """A snapshot's tree, and the whole tree that it is a difference to (itself where it is whole)."""

    tree: Tree
    base_key: str
    base_tree: Tree
    base_bytes: int


class UnsafeBucket(RepositoryError):
    """The bucket cannot keep two writers apart."""

    code = "bucket-unsafe"


class Repository:
    """HEAD and the manifests that it names. Reading is free; writing begins with a claim (`claim.py`).

    Args:
        usage: what every write of HEAD says of the models' use; None leaves there what is there.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        new_id: Callable[[], str],
        usage: Callable[[], dict[str, Any] | None] = lambda: None,
    ) -> None:
        self._usage = usage
        self._store = store
        self._clock = clock
        self._new_id = new_id

    @property
    def store(self) -> Store:
        """The bucket that the repository lies in."""
        return self._store

    @property
    def clock(self) -> Clock:
        """The clock that HEAD is dated by."""
        return self._clock

    async def read(self) -> HeadVersion | None:
        """HEAD, or None where there is no repository yet.

        Raises `RepositoryError` where HEAD is damaged, or is gone while snapshots are still there: that is a loss to
        be repaired, not an empty bucket.
        """
        try:
            stored = await self.fetch(fmt.HEAD_KEY, fmt.MAX_HEAD_BYTES)
        except ObjectNotFound:
            async for info in self._store.list(fmt.MANIFEST_PREFIX):
                raise RepositoryError(
                    f"{self._store.url} has snapshots ({info.key}) but no {fmt.HEAD_KEY}",
                    hint=f"bring {fmt.HEAD_KEY} back from a copy of the bucket, or restore by hand: docs/format.md",
                ) from None
            return None
        return HeadVersion(fmt.decode_head(stored.data), stored.etag)

    async def fetch(self, key: str, limit: int) -> StoredObject:
        """A whole object that may be hostile. Raises `ObjectNotFound`, and `RepositoryError` where it is larger."""
        try:
            return await self._store.get(key, limit=limit)
        except ObjectTooLarge as error:
            raise RepositoryError(error.message, hint="`moltinit verify` lists what is still whole") from error

    async def prove_conditional_writes(self, written: HeadVersion | None = None) -> None:
        """Some servers accept conditional writes and ignore the condition: with them nothing can be fenced, and two
        lives would overwrite each other. Asked before a repository's first snapshot.

        Args:
            written: HEAD as it is in the bucket; without it, an object is made for the purpose, and deleted.

        Raises `UnsafeBucket`.
        """
        if written is not None:
            other = fmt.replace_head(written.head, write_id=self._new_id())
            await self._prove_both(fmt.HEAD_KEY, fmt.encode_head(other))
            return
        probe = f"probe-{self._new_id()}"
        await self._store.put(probe, b"one")
        try:
            await self._prove_both(probe, b"two")
        finally:
            await self._store.delete([probe])

    async def _prove_both(self, there: str, data: bytes) -> None:
        async with task_group() as group:
            group.create_task(self._prove("If-None-Match", self._store.put_if_absent(there, data)))
            group.create_task(self._prove_match(f"probe-{self._new_id()}"))

    async def _prove_match(self, absent: str) -> None:
        try:
            await self._prove("If-Match", self._store.replace(absent, b"probe", etag=_NO_ETAG))
        except UnsafeBucket:
            await self._store.delete([absent])
            raise

    async def _prove(self, condition: str, write: Coroutine[Any, Any, str]) -> None:
        try:
            await write
        except PreconditionFailed:
            return
        raise UnsafeBucket(
            f"{self._store.url} ignores conditional writes ({condition}): two writers would not see each other",
            hint="use R2, S3, Ceph or a local directory; docs/providers.md lists what was tried",
        )

    async def write(self, head: Head, over: HeadVersion | None) -> HeadVersion:
        """Write HEAD over the version seen (None: there was none), stamped with a `write_id` of its own. Raises
        `PreconditionFailed`."""
        usage = self._usage()
        head = fmt.replace_head(
            head,
            write_id=self._new_id(),
            updated_at=self._clock.time(),
            usage=head.usage if usage is None else usage,
        )
        data = fmt.encode_head(head)
        if over is None:
            return HeadVersion(head, await self._store.put_if_absent(fmt.HEAD_KEY, data))
        return HeadVersion(head, await self._store.replace(fmt.HEAD_KEY, data, etag=over.etag))

    def begin(self) -> Head:
        """HEAD of a repository that does not exist yet, claimed by nobody."""
        return Head(
            format=fmt.FORMAT,
            repository=self._new_id(),
            sequence=0,
            epoch=0,
            write_id="",
            state=RELEASED,
            writer=Writer(boot="", home=""),
        )

    async def head_etag(self) -> str | None:
        """HEAD's ETag, or None where it is gone."""
        try:
            return (await self._store.stat(fmt.HEAD_KEY)).etag
        except ObjectNotFound:
            return None

    async def load(self, head: Head, record: SnapshotRecord) -> LoadedTree:
        """A snapshot's tree, in one round trip. Raises `RepositoryError` where it is damaged (also when it is read a
        second time: what the network damaged is whole then) or missing."""
        try:
            return await self._load(head, record)
        except UnsupportedFormat:
            raise
        except RepositoryError:
            return await self._load(head, record)

    async def _load(self, head: Head, record: SnapshotRecord) -> LoadedTree:
        keys = [record.manifest, *([record.base] if record.base else [])]
        for key in keys:
            fmt.check_manifest_key(key)
        try:
            objects = await asyncio.gather(*(self.fetch(key, fmt.MAX_STORED_MANIFEST_BYTES) for key in keys))
        except ObjectNotFound as error:
            raise RepositoryError(
                f"snapshot {record.sequence} is missing an object: {error.message}",
                hint="restore an older snapshot; `moltinit verify` lists which are whole",
            ) from error
        return await asyncio.to_thread(_decode_tree, head, record, [stored.data for stored in objects])


def _decode_tree(head: Head, record: SnapshotRecord, objects: list[bytes]) -> LoadedTree:
    manifest = fmt.decode_manifest(objects[0], record.manifest)
    base: Manifest | None = None
    if record.base:
        base = fmt.decode_manifest(objects[1], record.base)
    for part, key in ((manifest, record.manifest), (base, record.base)):
        if part is not None and part.repository != head.repository:
            raise RepositoryError(f"{key} belongs to the repository {part.repository}, not to {head.repository}")
    if manifest.sequence != record.sequence or manifest.base != record.base:
        raise RepositoryError(
            f"{record.manifest} describes snapshot {manifest.sequence} on {manifest.base}, but HEAD lists it as "
            f"{record.sequence} on {record.base}"
        )
    tree, base_tree = read_trees(manifest, record.manifest, base)
    return LoadedTree(tree, record.base or record.manifest, base_tree, len(objects[-1]))


def newest(head: Head) -> SnapshotRecord | None:
    """The snapshot that a boot restores: the last one that is promoted and not known to be damaged."""
    for record in reversed(head.snapshots):
        if record.promoted and not record.damaged:
            return record
    return None


def find(head: Head, sequence: int) -> SnapshotRecord:
    """A retained snapshot by its number. Raises `NotFound`."""
    for record in head.snapshots:
        if record.sequence == sequence:
            return record
    there = ", ".join(str(record.sequence) for record in head.snapshots[-10:]) or "none"
    raise NotFound(f"there is no snapshot {sequence}", hint=f"the newest are: {there}; `moltinit snapshots` lists all")
