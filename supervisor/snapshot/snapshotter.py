"""Taking snapshots: capture, upload, manifest, HEAD, in this order, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

from agent_runtime.contract import Stillness
from supervisor.clock import Clock
from supervisor.errors import MoltinitError
from supervisor.init.cell.rights import Rights
from supervisor.snapshot import format as fmt
from supervisor.snapshot.capture import Capture, Captured, Known
from supervisor.snapshot.claim import Claim, Identity
from supervisor.snapshot.compaction import CHECK_EVERY, scattered
from supervisor.snapshot.format import Manifest, SnapshotRecord
from supervisor.snapshot.guard import shrinks
from supervisor.snapshot.pack import BlobIndex, PackBuilder
from supervisor.snapshot.repository import LoadedTree
from supervisor.snapshot.retention import Retention
from supervisor.snapshot.tree import BaseTree, Pack, Tree, difference_manifest, whole_manifest
from supervisor.snapshot.upload import PackUploads
from supervisor.store.protocol import Store

DIFFERENCE_FLOOR = 32 << 10
"""Differences up to this size never cause a new whole manifest."""
DIFFERENCE_SHARE = 4
"""A difference may grow to this fraction of its base before the whole tree is written anew."""

_Result = TypeVar("_Result")


class CaptureFailed(MoltinitError):
    """The tree could not be read, or the scratch directory not be written."""

    code = "capture-failed"


@dataclass(frozen=True, slots=True)
class Taken:
    """What taking a snapshot came to. `record` is None where nothing had changed (or nothing was committed)."""

    record: SnapshotRecord | None
    read_bytes: int = 0
    uploaded_bytes: int = 0
    capture_seconds: float = 0.0
    seconds: float = 0.0
    shrunk: str | None = None
    damaged_databases: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    unread: tuple[str, ...] = ()


@dataclass(slots=True)
class _Committed:
    """What the bucket is known to hold of this tree."""

    tree: Tree
    promoted_tree: Tree
    base: BaseTree | None
    known: Mapping[str, Known]


class Snapshotter:
    """The writer's side of the engine.

    Args:
        capture: reads the tree.
        claim: the right to commit.
        quiesce: holds the agent still as long as what it yields is true; called only for consistent snapshots.
    """

    def __init__(
        self,
        *,
        capture: Capture,
        claim: Claim,
        store: Store,
        identity: Identity,
        retention: Retention,
        clock: Clock,
        new_id: Callable[[], str],
        rights: Rights | None = None,
    ) -> None:
        self._capture = capture
        self._claim = claim
        self._store = store
        self._identity = identity
        self._retention = retention
        self._clock = clock
        self._new_id = new_id
        self._index = BlobIndex()
        self._unindexed: tuple[Tree, ...] = ()
        self._state = _Committed(Tree(), Tree(), None, {})
        self._since_compaction = CHECK_EVERY
        self._lock = asyncio.Lock()
        # One thread, so that a capture that was cancelled has ended before the next one begins.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="capture", initializer=(rights or Rights()).take)

    @property
    def tree(self) -> Tree:
        """The last committed tree."""
        return self._state.tree

    @property
    def packs(self) -> set[str]:
        """Ids of all packs that the next snapshot may refer to."""
        return self._indexed().packs()

    @property
    def known(self) -> Mapping[str, Known]:
        """What the last capture learnt, for a restore in place."""
        return self._state.known

    def adopt(self, loaded: LoadedTree, known: Mapping[str, Known]) -> None:
        """Begin from a snapshot that is in the bucket; `known` holds the signatures of names that are on disk exactly
        as the snapshot says."""
        in_history = loaded.base_key.startswith(fmt.MANIFEST_PREFIX)  # a rescued state may be forgotten at any time
        base = BaseTree(loaded.base_key, loaded.base_tree, loaded.base_bytes) if in_history else None
        self._state = _Committed(loaded.tree, loaded.tree, base, known)
        self._unindexed = (loaded.base_tree, loaded.tree)

    def _indexed(self) -> BlobIndex:
        """With what was adopted, once the first capture asks for it: a restore needs its memory for other things."""
        trees, self._unindexed = self._unindexed, ()
        for tree in trees:
            self._index.add_all(tree)
        return self._index

    def learn(self, known: Mapping[str, Known]) -> None:
        """The tree on disk was changed by a restore; `known` says how it is now. What is committed stays."""
        self._state.known = known

    async def changed(self) -> bool:
        """Does a walk over the tree find anything to do? No request, no reading. Raises `CaptureFailed`."""
        async with self._lock:
            try:
                return await self._in_thread(lambda: self._capture.changed(self._state.known))
            except OSError as error:
                raise _unreadable(error) from error

    async def take(
        self,
        reason: str,
        *,
        quiesce: AbstractAsyncContextManager[Stillness] | None = None,
        consistent: bool = False,
        force: bool = False,
        accept_shrink: bool = False,
        check_databases: bool = False,
        release: bool = False,
        pin: str = "",
        note: str = "",
        compact: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Taken:
        """Capture the tree and commit it, unless nothing changed (`force` commits all the same).

        Args:
            reason: why, as the listing shows it (`change`, `drain`, `final`, `operator`, ...).
            quiesce: a context that holds the agent still while the tree is read.
            consistent: the agent is not running, so the tree holds still by itself.
            accept_shrink: promote the snapshot even though it drops most of the tree.
            compact: store content anew that is scattered over many small packs, where that is due.
            release: let go of the repository with the commit; where nothing is committed, or something could not be
                read, nothing is let go of.

        Raises `Fenced`, store errors (nothing is lost: the next snapshot takes up what this one could not), and
        `CaptureFailed`.
        """
        async with self._lock:
            started = self._clock.monotonic()
            taken_at = self._clock.time()
            async with PackUploads(self._store) as uploads:
                async with quiesce or nullcontext(consistent) as still:
                    captured = await self._read(uploads, check_databases or bool(still), progress, compact=compact)
                    held = bool(still)  # to the end: an agent that went on meanwhile was not
                wanted = force or accept_shrink or await self._in_thread(lambda: self._is_news(captured.tree, held))
                if wanted:
                    record, base, shrunk = await self._describe(captured, uploads, accept_shrink)
            if not wanted:
                self._state.known = captured.known
                # A compaction may have stored content anew: what the next tree refers to is in use from now on.
                self._unindexed = (*self._unindexed, captured.tree)
                return self._taken(None, captured, uploads, started, None)
            record = fmt.replace_record(record, taken_at=taken_at, reason=reason, consistent=held, pin=pin, note=note)
            head = await self._claim.commit(record, self._retention, release=release and not captured.unread)
            self._commit_state(captured, base, promoted=record.promoted)
            committed = next((r for r in head.snapshots if r.manifest == record.manifest), record)
            return self._taken(committed, captured, uploads, started, shrunk)

    async def rescue(self) -> str:
        """Store the tree where a fenced writer may: under `rescue/`, outside the history. Returns the manifest's key;
        HEAD is not touched.

        The new writer may have collected what this one still refers to, so that is looked at before the manifest is
        written, and once more after, when the new writer can see it.
        """
        async with self._lock:
            tree = await self._store_for_rescue()
            if await self._have_vanished(tree):
                tree = await self._store_for_rescue(anew=True)
            key = await self._write_rescue(tree)
            if await self._have_vanished(tree):
                tree = await self._store_for_rescue(anew=True)
                incomplete, key = key, await self._write_rescue(tree)
                await self._store.delete([incomplete])
            return key

    async def _store_for_rescue(self, *, anew: bool = False) -> Tree:
        if anew:
            self._index, self._unindexed = BlobIndex(), ()
            self._state.known = {}
        async with PackUploads(self._store) as uploads:
            return (await self._read(uploads, False, lambda done, total: None)).tree

    async def _write_rescue(self, tree: Tree) -> str:
        """A rescue has nothing but its manifest to be found by: it comes after everything that it names."""
        head, epoch = self._claim.head, self._claim.epoch
        manifest = await self._in_thread(
            lambda: fmt.encode_manifest(
                whole_manifest(tree, repository=head.repository, sequence=head.sequence + 1, epoch=epoch)
            )
        )
        key = fmt.manifest_key(head.sequence + 1, epoch, self._new_id(), prefix=fmt.RESCUE_PREFIX)
        await self._store.put(key, manifest)
        return key

    async def _have_vanished(self, tree: Tree) -> bool:
        """Was something of this tree collected by the new writer, which did not know that we still refer to it?"""
        there = {info.key async for info in self._store.list(fmt.PACK_PREFIX)}
        return any(fmt.pack_key(blob.frame.pack.id) not in there for blob in tree.blobs())

    def close(self) -> None:
        """Give back the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _is_news(self, tree: Tree, consistent: bool) -> bool:
        """Does HEAD not say this yet? That the same tree was seen while the agent held still is news, too."""
        snapshots = self._claim.head.snapshots
        if not snapshots or not tree.same_as(self._state.tree):
            return True
        return consistent and not snapshots[-1].consistent

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _read(
        self,
        uploads: PackUploads,
        check_databases: bool,
        progress: Callable[[int, int], None],
        *,
        compact: bool = False,
    ) -> Captured:
        stale: frozenset[Pack] = frozenset()
        if compact and self._since_compaction >= CHECK_EVERY:
            stale = await self._in_thread(lambda: scattered(self._state.tree))
        known = self._state.known

        def run() -> Captured:
            builder = PackBuilder(self._indexed(), self._new_id, uploads.emit, stale=stale)
            return self._capture.run(known, builder, check_databases=check_databases, progress=progress)

        try:
            return await self._in_thread(run)
        except OSError as error:
            raise _unreadable(error) from error

    async def _describe(
        self, captured: Captured, uploads: PackUploads, accept_shrink: bool
    ) -> tuple[SnapshotRecord, BaseTree, str | None]:
        """The manifest, on its way to the bucket beside the packs; nobody can find it before HEAD names it."""
        head = self._claim.head
        sequence = head.sequence + 1
        key = fmt.manifest_key(sequence, self._claim.epoch, self._new_id())
        tree = captured.tree

        def describe() -> tuple[bytes, SnapshotRecord, BaseTree, str | None]:
            shrunk = shrinks(self._state.promoted_tree, tree, self._capture.classes)
            encoded, base = self._encode(tree, key, sequence)
            record = SnapshotRecord(
                sequence=sequence,
                epoch=self._claim.epoch,
                manifest=key,
                base=None if base.key == key else base.key,
                files=tree.files,
                bytes=tree.bytes,
                torn=tree.torn,
                promoted=shrunk is None or accept_shrink,
                agent=self._identity.agent,
                agent_version=self._identity.agent_version,
                home=self._identity.home,
            )
            return encoded, record, base, None if accept_shrink else shrunk

        encoded, record, base, shrunk = await self._in_thread(describe)
        uploads.put_soon(key, encoded)
        return record, base, shrunk

    def _encode(self, tree: Tree, key: str, sequence: int) -> tuple[bytes, BaseTree]:
        repository = self._claim.head.repository
        base = self._state.base
        if base is not None:
            difference: Manifest = difference_manifest(
                tree, base, repository=repository, sequence=sequence, epoch=self._claim.epoch
            )
            encoded = fmt.encode_manifest(difference)
            if len(encoded) <= max(DIFFERENCE_FLOOR, base.encoded_bytes // DIFFERENCE_SHARE):
                return encoded, base
        whole = fmt.encode_manifest(
            whole_manifest(tree, repository=repository, sequence=sequence, epoch=self._claim.epoch)
        )
        return whole, BaseTree(key, tree, len(whole))

    def _commit_state(self, captured: Captured, base: BaseTree, *, promoted: bool) -> None:
        self._state = _Committed(
            captured.tree,
            captured.tree if promoted else self._state.promoted_tree,
            base,
            captured.known,
        )
        self._since_compaction = 0 if self._since_compaction >= CHECK_EVERY else self._since_compaction + 1
        # Not on the loop, which a large tree would hold up: when the next capture begins.
        self._unindexed = (captured.tree,)

    def _taken(
        self,
        record: SnapshotRecord | None,
        captured: Captured,
        uploads: PackUploads,
        started: float,
        shrunk: str | None,
    ) -> Taken:
        return Taken(
            record,
            captured.read_bytes,
            uploads.bytes,
            captured.seconds,
            self._clock.monotonic() - started,
            shrunk,
            captured.damaged_databases,
            captured.tree.skipped,
            captured.unread,
        )


def _unreadable(error: OSError) -> CaptureFailed:
    return CaptureFailed(
        f"the agent's tree cannot be read: {error.strerror}: {error.filename or ''}".rstrip(": "),
        hint="see whether the disk is full, or the directory or its rights have changed",
    )
