"""HEAD, the one mutable object: who writes, and which snapshots there are.

Every change is a compare-and-swap on the ETag last seen and carries a `write_id` of its own, so a lost answer is read
back and never guessed, and a writer whose epoch has passed can commit nothing (docs/fencing.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from supervisor.clock import Clock
from supervisor.errors import (
    Fenced,
    MoltinitError,
    ObjectNotFound,
    PreconditionFailed,
    RepositoryError,
    StoreUnavailable,
    UsageError,
)
from supervisor.snapshot import format as fmt
from supervisor.snapshot.format import Head, Manifest, SnapshotRecord, Writer
from supervisor.snapshot.retention import Retention
from supervisor.snapshot.tree import Tree, read_tree
from supervisor.store.protocol import Store

HELD: Final = "held"
RELEASED: Final = "released"

CAS_ATTEMPTS = 8
"""How often a change of HEAD is tried again because something else in HEAD changed; each round reads it anew."""


@dataclass(frozen=True, slots=True)
class HeadVersion:
    """HEAD as read, with the ETag that a change of it must name."""

    head: Head
    etag: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this daemon is: `boot` is unique to one life, `home` to one local disk."""

    boot: str
    home: str
    host: str
    agent: str
    agent_version: str


@dataclass(frozen=True, slots=True)
class LoadedTree:
    """A snapshot's tree, and the whole tree that it is a difference to (itself where it is whole)."""

    tree: Tree
    base_key: str
    base_tree: Tree
    base_bytes: int


class HeadMoved(MoltinitError):
    """HEAD went on under a snapshot that was described before; the next attempt takes that into account."""

    code = "head-moved"


class UnsafeBucket(RepositoryError):
    """The bucket cannot keep two writers apart."""

    code = "bucket-unsafe"


class Repository:
    """Reading is free; writing begins with `claim`."""

    def __init__(self, store: Store, clock: Clock, new_id: Callable[[], str]) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id

    @property
    def store(self) -> Store:
        """The bucket that the repository lies in."""
        return self._store

    async def read(self) -> HeadVersion | None:
        """HEAD, or None where there is no repository yet.

        Raises `RepositoryError` where HEAD is damaged, or is gone while snapshots are still there: that is a loss to
        be repaired, not an empty bucket.
        """
        try:
            stored = await self._store.get(fmt.HEAD_KEY)
        except ObjectNotFound:
            async for info in self._store.list(fmt.MANIFEST_PREFIX):
                raise RepositoryError(
                    f"{self._store.url} has snapshots ({info.key}) but no {fmt.HEAD_KEY}",
                    hint=f"bring {fmt.HEAD_KEY} back from a copy of the bucket, or restore by hand: docs/format.md",
                ) from None
            return None
        return HeadVersion(fmt.decode_head(stored.data), stored.etag)

    async def claim(self, identity: Identity) -> Claim:
        """Become the only writer: the epoch goes up by one, and with it every earlier writer is fenced."""
        for _ in range(CAS_ATTEMPTS):
            seen = await self.read()
            if seen is None:
                await self.prove_conditional_writes()
            head = self._claimed(seen.head if seen else None, identity)
            try:
                etag = await self._write(head, seen)
            except PreconditionFailed:
                continue
            return Claim(self, identity, HeadVersion(head, etag))
        raise StoreUnavailable(
            f"{self._store.url}: {fmt.HEAD_KEY} changed under each of {CAS_ATTEMPTS} attempts to claim it",
            hint="several daemons start on one bucket and prefix; give each agent its own prefix",
        )

    async def prove_conditional_writes(self) -> None:
        """Some servers accept conditional writes and ignore the condition: with them nothing can be fenced, and two
        lives would overwrite each other. Asked once, before a repository is begun."""
        key = f"probe-{self._new_id()}"
        try:
            await self._store.put_if_absent(key, b"one")
            try:
                await self._store.put_if_absent(key, b"two")
            except PreconditionFailed:
                return
        finally:
            await self._store.delete([key])
        raise UnsafeBucket(
            f"{self._store.url} ignores conditional writes (If-None-Match): two writers would not see each other",
            hint="use R2, S3, Ceph or a local directory; docs/providers.md lists what was tried",
        )

    def _claimed(self, head: Head | None, identity: Identity) -> Head:
        writer = Writer(
            boot=identity.boot,
            home=identity.home,
            host=identity.host,
            agent=identity.agent,
            agent_version=identity.agent_version,
            claimed_at=self._clock.time(),
        )
        if head is None:
            head = Head(
                format=fmt.FORMAT,
                repository=self._new_id(),
                sequence=0,
                epoch=0,
                write_id="",
                state=RELEASED,
                writer=writer,
            )
        return msgspec.structs.replace(
            head,
            epoch=head.epoch + 1,
            write_id=self._new_id(),
            state=HELD,
            writer=writer,
            handover=None,
            updated_at=self._clock.time(),
        )

    async def _write(self, head: Head, over: HeadVersion | None) -> str:
        data = fmt.encode_head(head)
        if over is None:
            return await self._store.put_if_absent(fmt.HEAD_KEY, data)
        return await self._store.replace(fmt.HEAD_KEY, data, etag=over.etag)

    async def head_etag(self) -> str | None:
        """HEAD's ETag, or None where it is gone."""
        try:
            return (await self._store.stat(fmt.HEAD_KEY)).etag
        except ObjectNotFound:
            return None

    async def swap(self, head: Head, over: HeadVersion) -> HeadVersion:
        """Write `head` over the version seen. Raises `PreconditionFailed`."""
        return HeadVersion(head, await self._write(head, over))

    async def load(self, head: Head, record: SnapshotRecord) -> LoadedTree:
        """A snapshot's tree, in one round trip. Raises `RepositoryError` where it is damaged or missing."""
        keys = [record.manifest, *([record.base] if record.base else [])]
        try:
            objects = await asyncio.gather(*(self._store.get(key) for key in keys))
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
    tree = read_tree(manifest, record.manifest, base)
    if base is None or record.base is None:
        return LoadedTree(tree, record.manifest, tree, len(objects[0]))
    return LoadedTree(tree, record.base, read_tree(base, record.base), len(objects[1]))


def newest(head: Head) -> SnapshotRecord | None:
    """The snapshot that a boot restores: the last one that is promoted and not known to be damaged."""
    for record in reversed(head.snapshots):
        if record.promoted and not record.damaged:
            return record
    return None


def find(head: Head, sequence: int) -> SnapshotRecord:
    """A retained snapshot by its number. Raises `UsageError`."""
    for record in head.snapshots:
        if record.sequence == sequence:
            return record
    there = ", ".join(str(record.sequence) for record in head.snapshots[-10:]) or "none"
    raise UsageError(
        f"there is no snapshot {sequence}", hint=f"the newest are: {there}; `moltinit snapshots` lists all"
    )


class Claim:
    """The right to commit, until another writer claims. One task at a time may change HEAD."""

    def __init__(self, repository: Repository, identity: Identity, version: HeadVersion) -> None:
        self._repository = repository
        self._identity = identity
        self._version = version
        self._epoch = version.head.epoch
        self._lock = asyncio.Lock()

    @property
    def head(self) -> Head:
        """HEAD as last seen or written."""
        return self._version.head

    @property
    def epoch(self) -> int:
        """The epoch of this claim."""
        return self._epoch

    async def refresh(self) -> Head:
        """Look at HEAD, in one cheap request where it has not changed. Raises `Fenced` where another writer has
        claimed it since."""
        async with self._lock:
            if await self._repository.head_etag() == self._version.etag:
                return self._version.head
            return await self._read()

    async def commit(self, record: SnapshotRecord, retention: Retention, *, release: bool = False) -> Head:
        """Make a snapshot part of the history; the packs and the manifest must be stored already. With `release`, let
        go of the repository in the same step.

        Doing it twice is doing it once, so an unknown outcome (`StoreUnavailable`) is answered by trying again.
        Raises `Fenced`, and `HeadMoved` where an earlier commit that seemed to have failed went through.
        """

        def change(head: Head) -> Head | None:
            if any(known.manifest == record.manifest for known in head.snapshots):
                return None
            if head.sequence >= record.sequence:
                raise HeadMoved(f"snapshot {record.sequence} was described before HEAD reached {head.sequence}")
            stamped = msgspec.structs.replace(record, committed_at=self._repository._clock.time())
            return msgspec.structs.replace(
                head,
                sequence=record.sequence,
                state=RELEASED if release else head.state,
                snapshots=retention.apply([*head.snapshots, stamped], now=stamped.committed_at),
            )

        return await self.update(change)

    async def release(self) -> None:
        """Let go, so that the next life need not wait. Raises `Fenced`."""

        def change(head: Head) -> Head | None:
            return None if head.state == RELEASED else msgspec.structs.replace(head, state=RELEASED, handover=None)

        await self.update(change)

    async def update(self, change: Callable[[Head], Head | None]) -> Head:
        """Change HEAD; `change` returns the new HEAD, or None where nothing is to be changed. It may be called more
        than once, each time with what HEAD says then. Raises `Fenced`."""
        async with self._lock:
            for _ in range(CAS_ATTEMPTS):
                changed = change(self._version.head)
                if changed is None:
                    return self._version.head
                changed = msgspec.structs.replace(
                    changed,
                    write_id=self._repository._new_id(),
                    updated_at=self._repository._clock.time(),
                )
                try:
                    self._version = await self._repository.swap(changed, self._version)
                except PreconditionFailed:
                    await self._read(made=change)
                    continue
                return self._version.head
        raise StoreUnavailable(f"{fmt.HEAD_KEY} changed under each of {CAS_ATTEMPTS} attempts to change it")

    async def _read(self, made: Callable[[Head], Head | None] | None = None) -> Head:
        """HEAD as it is now; with `made`, a change whose answer may be what was lost."""
        seen = await self._repository.read()
        if seen is None:
            raise RepositoryError(
                f"{fmt.HEAD_KEY} is gone from {self._repository.store.url} while this daemon holds it",
                hint="somebody deleted it; nothing is written until the daemon is started again",
            )
        head = seen.head
        if head.epoch != self._epoch or head.writer.boot != self._identity.boot:
            kept = made is not None and _went_through(made, head)
            raise Fenced(
                f"epoch {self._epoch} was superseded by epoch {head.epoch}, claimed by {head.writer.host or 'another'}"
                f" (boot {head.writer.boot})" + (", after the last commit went through" if kept else ""),
                hint="another VM runs this agent now; what could not be committed is kept under rescue/",
            )
        self._version = seen
        return head


def _went_through(change: Callable[[Head], Head | None], head: Head) -> bool:
    try:
        return change(head) is None
    except HeadMoved:
        return False
