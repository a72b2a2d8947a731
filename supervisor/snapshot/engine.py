"""The engine as the life cycle uses it: claim, bring back, keep saving, let go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from agent_runtime.contract import Stillness
from supervisor.clock import Clock
from supervisor.concurrency import task_group
from supervisor.errors import MoltinitError, RepositoryError, UnsupportedFormat, UsageError
from supervisor.init.cell.rights import Rights
from supervisor.snapshot.capture import Capture, Known
from supervisor.snapshot.claim import Claim, Identity
from supervisor.snapshot.collect import Collected, Collector
from supervisor.snapshot.compare import Change, compare
from supervisor.snapshot.download import Opened, open_file, open_tar
from supervisor.snapshot.format import Head, SnapshotRecord, replace_head, replace_record
from supervisor.snapshot.handover import NO_PATIENCE, Patience, take_over
from supervisor.snapshot.history import (
    BEFORE_RESTORE,
    BEFORE_UPGRADE,
    RESTORE_REASON,
    Rescued,
    annotate,
    forget,
    last_restore,
    load_rescued,
    rescues,
)
from supervisor.snapshot.importer import Imported, Source, import_foreign
from supervisor.snapshot.local import LocalDisk, Marker
from supervisor.snapshot.repository import LoadedTree, Repository, find, newest
from supervisor.snapshot.restore import Restorer
from supervisor.snapshot.retention import Retention
from supervisor.snapshot.rules import Classes, SkipRules
from supervisor.snapshot.scan import scan
from supervisor.snapshot.snapshotter import Snapshotter, Taken
from supervisor.snapshot.sqlite_client import Server
from supervisor.snapshot.tree import Tree, graft
from supervisor.snapshot.versions import is_upgrade
from supervisor.store.protocol import Store

Progress = Callable[[int, int], None]

COLLECT_SECONDS = 24 * 3600.0
"""Between two collections, whichever lives they fall into."""


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class BroughtBack:
    """How the agent's tree came to be on this disk.

    `origin` is `fresh` (an empty repository), `local` (this disk had the newest state), `restored` or `imported`.
    `damaged` are the snapshots that had to be passed over, newest first, each with what is wrong with it; `rescued` is
    where a local state that had parted from the history was kept.
    """

    origin: str
    record: SnapshotRecord | None = None
    damaged: tuple[tuple[int, str], ...] = ()
    rescued: str = ""
    imported: Imported | None = None
    fetched_bytes: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What was put in place while the holder was waited for."""

    manifest: str
    loaded: LoadedTree
    known: Mapping[str, Known]


class Engine:
    """One repository, one root, one life.

    Args:
        root: the agent's home: everything below it that `rules` do not skip is the tree.
        imports: foreign layouts that may be moved in.
        volatile_tables: tables of databases that are stored empty.
        rights: whose rights are used on the tree.
        furnish: sees to it that the root is there, and theirs; the agent is down when it is called. Raises `DiskError`.
        scratch: where databases are copied to, with those rights; by default the disk's own scratch directory.
    """

    def __init__(
        self,
        *,
        repository: Repository,
        store: Store,
        disk: LocalDisk,
        root: Path,
        rules: SkipRules,
        classes: Classes,
        identity: Identity,
        clock: Clock,
        new_id: Callable[[], str],
        retention: Retention | None = None,
        imports: Sequence[Source] = (),
        volatile_tables: Sequence[str] = (),
        rights: Rights | None = None,
        furnish: Callable[[], object] | None = None,
        scratch: Path | None = None,
    ) -> None:
        self._repository = repository
        self._store = store
        self._disk = disk
        self._root = root
        self._rules = rules
        self._classes = classes
        self._identity = identity
        self._clock = clock
        self._new_id = new_id
        self._retention = retention or Retention()
        self._imports = imports
        self._volatile_tables = volatile_tables
        self._rights = rights or Rights()
        self._furnish = furnish
        self._scratch = scratch or disk.scratch
        self._claim: Claim | None = None
        self._snapshotter: Snapshotter | None = None
        self._ahead: _Ahead | None = None
        self._collector = Collector(repository)
        self._restorer = Restorer(store, root, rules=rules, classes=classes, rights=self._rights)
        # A snapshot taken between the steps of a restore would store a tree that is neither the old nor the new one.
        self._turn = asyncio.Lock()

    @property
    def head(self) -> Head | None:
        """HEAD as last seen; None before the claim."""
        return self._claim.head if self._claim else None

    @property
    def epoch(self) -> int | None:
        """This life's epoch; None before the claim."""
        return self._claim.epoch if self._claim else None

    @property
    def ready(self) -> bool:
        """The tree is back; snapshots may be taken."""
        return self._snapshotter is not None

    @property
    def _held(self) -> Claim:
        if self._claim is None:
            raise UsageError("the repository is not claimed yet", hint="wait until the daemon has restored")
        return self._claim

    @property
    def _writer(self) -> Snapshotter:
        if self._snapshotter is None:
            raise UsageError("the agent's tree is not restored yet", hint="wait until the daemon has restored")
        return self._snapshotter

    # -- claim and restore

    async def claim(
        self, patience: Patience = NO_PATIENCE, waiting: Callable[[Head], None] = lambda head: None
    ) -> Head:
        """Become the only writer; see `handover.take_over`. While a holder is waited for, the newest snapshot is put
        in place already, so that `bring_back` has only the difference to fetch. May be tried again."""
        self._ahead = None
        await self._prepare_root()
        async with task_group() as group:
            ahead: asyncio.Task[None] | None = None

            def wait_for(head: Head) -> None:
                nonlocal ahead
                waiting(head)
                if ahead is None:
                    ahead = group.create_task(self._restore_ahead(head))

            self._claim = await take_over(self._repository, self._identity, patience, waiting=wait_for)
        return self._claim.head

    async def _prepare_root(self) -> None:
        if self._furnish is not None:
            await asyncio.to_thread(self._furnish)

    async def _restore_ahead(self, head: Head) -> None:
        """Only onto a disk that holds nothing of its own. What goes wrong here goes wrong again later, and is told
        then."""
        record = newest(head)
        if record is None or self._disk.marker() is not None:
            return
        with contextlib.suppress(MoltinitError):
            loaded = await self._repository.load(head, record)
            restored = await self._restorer.restore(loaded.tree)
            self._ahead = _Ahead(record.manifest, loaded, restored.known)

    async def acknowledge(self) -> None:
        """Answer a newcomer's request to hand over. Raises `Fenced` and store errors."""
        await self._held.acknowledge()

    async def bring_back(self, progress: Progress = no_progress) -> BroughtBack:
        """Make the root the newest state there is: this disk's own, else the newest sound snapshot, else a foreign
        layout, else nothing. Raises store errors (try again), `RestoreFailed`, and `RepositoryError` where no
        snapshot at all is whole."""
        await self._prepare_root()
        head = self._held.head
        record = newest(head)
        if await self._local_is_newest(head, record):
            return await self._go_on_locally(record)
        rescued = await self._rescue_local(head, record)
        self._disk.unmark()
        if record is None and not head.snapshots:
            return await self._begin(head, progress)
        return await self._restore_newest(head, rescued, progress)

    async def _local_is_newest(self, head: Head, record: SnapshotRecord | None) -> bool:
        """Did nobody else commit since this disk's tree was current?"""
        marker = self._disk.marker()
        if marker is None or marker.repository != head.repository or not self._root.is_dir():
            return False
        latest = head.snapshots[-1] if head.snapshots else None
        return latest is None or latest.sequence == marker.sequence or latest.home == self._disk.id

    async def _go_on_locally(self, record: SnapshotRecord | None) -> BroughtBack:
        loaded = None
        if record is not None:
            try:
                loaded = await self._repository.load(self._held.head, record)
            except RepositoryError as error:
                self._start_writer(None)
                return BroughtBack("local", None, damaged=((record.sequence, error.message),))
            if await self._lost_locally(loaded):
                self._disk.unmark()
                return await self._restore_newest(self._held.head, "", no_progress)
        self._start_writer(loaded)
        return BroughtBack("local", record)

    async def _lost_locally(self, loaded: LoadedTree) -> bool:
        """An emptied directory on this disk is not a newer state but a loss."""
        with self._rights.taken():
            present = scan(self._root, self._rules).found
        left = {path: entry for path, entry in loaded.tree.entries.items() if path in present}
        gone = len(loaded.tree.entries) - len(left)
        return gone * 2 > len(loaded.tree.entries) and len(present) * 2 < len(loaded.tree.entries)

    async def _rescue_local(self, head: Head, record: SnapshotRecord | None) -> str:
        """This disk's tree was current once and the history went on elsewhere: what only this disk has is kept."""
        marker = self._disk.marker()
        if marker is None or marker.repository != head.repository or not self._root.is_dir():
            return ""
        loaded = None
        if record is not None:
            with contextlib.suppress(RepositoryError):  # it only saves storing the same content twice
                loaded = await self._repository.load(head, record)
        self._start_writer(loaded)
        try:
            return await self._writer.rescue()
        finally:
            self._stop_writer()

    async def _begin(self, head: Head, progress: Progress) -> BroughtBack:
        imported = await import_foreign(
            self._store, self._root, self._imports, owner=self._rights.ids, progress=progress
        )
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._disk.mark(Marker(repository=head.repository, sequence=0))
        self._start_writer(None)
        return BroughtBack("imported" if imported else "fresh", imported=imported)

    async def _restore_newest(self, head: Head, rescued: str, progress: Progress) -> BroughtBack:
        damaged: list[tuple[int, str]] = []
        for record in reversed([r for r in head.snapshots if r.promoted and not r.damaged]):
            try:
                ahead, self._ahead = self._ahead, None  # true until the tree is touched
                if ahead is not None and ahead.manifest == record.manifest:
                    loaded = ahead.loaded
                else:
                    loaded = await self._repository.load(head, record)
                known = ahead.known if ahead else {}
                restored = await self._restorer.restore(loaded.tree, known=known, progress=progress)
            except UnsupportedFormat:
                raise  # it is whole; who reads it is too old
            except RepositoryError as error:
                damaged.append((record.sequence, error.message))
                continue
            self._disk.mark(Marker(repository=head.repository, sequence=head.snapshots[-1].sequence))
            self._start_writer(loaded)
            self._writer.adopt(loaded, restored.known)
            await self._flag_damaged(damaged)
            return BroughtBack(
                "restored", record, tuple(damaged), rescued, None, restored.fetched_bytes, restored.requests
            )
        raise RepositoryError(
            f"none of the {len(damaged)} snapshots in {self._store.url} can be restored; the newest: {damaged[0][1]}"
            if damaged
            else f"{self._store.url} has no snapshot that may be restored",
            hint="`moltinit verify --deep` lists what is left; docs/format.md tells how to bring it back by hand",
        )

    async def _flag_damaged(self, damaged: list[tuple[int, str]]) -> None:
        """Say in HEAD what is damaged, so that no later life tries it and retention does not count on it."""
        numbers = {sequence for sequence, _ in damaged}
        if not numbers:
            return

        def change(head: Head) -> Head:
            return replace_head(
                head,
                snapshots=[
                    replace_record(record, damaged=True) if record.sequence in numbers else record
                    for record in head.snapshots
                ],
            )

        await self._held.update(change)

    def _start_writer(self, loaded: LoadedTree | None) -> None:
        self._snapshotter = Snapshotter(
            capture=Capture(
                self._root,
                rules=self._rules,
                classes=self._classes,
                scratch=self._scratch,
                databases=Server.default(self._rights.ids),
                volatile_tables=self._volatile_tables,
            ),
            claim=self._held,
            store=self._store,
            identity=self._identity,
            retention=self._retention,
            clock=self._clock,
            new_id=self._new_id,
            rights=self._rights,
        )
        if loaded is not None:
            self._snapshotter.adopt(loaded, {})

    def _stop_writer(self) -> None:
        if self._snapshotter is not None:
            self._snapshotter.close()
            self._snapshotter = None

    # -- while serving

    async def changed(self) -> bool:
        """Does a walk find anything to save? No request."""
        return await self._writer.changed()

    async def take(
        self,
        reason: str,
        *,
        quiesce: AbstractAsyncContextManager[Stillness] | None = None,
        consistent: bool = False,
        force: bool = False,
        accept_shrink: bool = False,
        check_databases: bool = False,
        compact: bool = False,
        release: bool = False,
        pin: str = "",
        note: str = "",
        progress: Progress = no_progress,
    ) -> Taken:
        """See `Snapshotter.take`."""
        async with self._turn:
            return await self._writer.take(
                reason,
                quiesce=quiesce,
                consistent=consistent,
                force=force,
                accept_shrink=accept_shrink,
                check_databases=check_databases,
                compact=compact,
                release=release,
                pin=pin,
                note=note,
                progress=progress,
            )

    async def refresh(self) -> Head:
        """Read HEAD. Raises `Fenced` where somebody else has claimed it."""
        return await self._held.refresh()

    async def rescue(self) -> str:
        """Keep the tree outside of the history; see `Snapshotter.rescue`."""
        async with self._turn:
            return await self._writer.rescue()

    async def restore(self, wanted: int | str, *, path: str = "", progress: Progress = no_progress) -> SnapshotRecord:
        """Put an older snapshot (its number) or a rescued state (its key) in place, whole or only what lies at and
        below `path`, and commit it as the newest. The agent must be down, and stays down until this has ended. The
        state before is committed first, and pinned.

        Raises `UsageError` for what is not there, and whatever a restore raises. Where the tree was touched already,
        `ready` is False afterwards: `bring_back` makes it whole again.
        """
        async with self._turn:
            loaded = await self._load(wanted)
            what = f"{path} of {wanted}" if path else str(wanted)
            grafted = graft(Tree(), loaded.tree, path) if path else None  # is there such a path at all?
            writer = self._writer
            before = await writer.take(
                BEFORE_RESTORE, consistent=True, force=True, pin=BEFORE_RESTORE, note=f"before restoring {what}"
            )
            assert before.record is not None, "a forced snapshot is always committed"
            tree = loaded.tree if grafted is None else graft(writer.tree, loaded.tree, path)
            await self._prepare_root()
            self._disk.unmark()
            try:
                restored = await self._restorer.restore(tree, known=writer.known, progress=progress)
            except BaseException:
                self._stop_writer()
                raise
            self._disk.mark(Marker(repository=self._held.head.repository, sequence=before.record.sequence))
            if grafted is None:
                writer.adopt(loaded, restored.known)
            else:
                writer.learn(restored.known)
            taken = await writer.take(
                RESTORE_REASON, consistent=True, force=True, accept_shrink=True, note=f"restored from {what}"
            )
            assert taken.record is not None, "a forced snapshot is always committed"
            return taken.record

    async def _load(self, wanted: int | str) -> LoadedTree:
        head = self._held.head
        if isinstance(wanted, int):
            return await self._repository.load(head, find(head, wanted))
        return await load_rescued(self._repository, head, wanted)

    def before_last_restore(self) -> SnapshotRecord:
        """What to restore in order to undo the last restore (an undo can be undone). Raises `UsageError`."""
        return last_restore(self._held.head)

    # -- the history

    async def pin_before_upgrade(self) -> SnapshotRecord | None:
        """The agent that is about to run against the one that wrote the newest snapshot: where it is newer, that
        snapshot is pinned (and returned). Raises `AgentTooOld`, `Fenced` and store errors."""
        record = newest(self._held.head)
        if record is None or not is_upgrade(record, self._identity, self._held.head):
            return None
        return await self.annotate(record.sequence, pin=record.pin or BEFORE_UPGRADE)

    async def annotate(self, sequence: int, *, pin: str | None = None, note: str | None = None) -> SnapshotRecord:
        """See `history.annotate`."""
        return await annotate(self._held, sequence, pin=pin, note=note)

    async def forget(self, sequence: int) -> None:
        """See `history.forget`."""
        await forget(self._held, sequence)

    async def rescues(self) -> list[Rescued]:
        """See `history.rescues`."""
        return await rescues(self._repository)

    async def compare(self, before: int, after: int | None = None) -> list[Change]:
        """What differs between two snapshots; without `after`, up to the newest one. Raises `UsageError` and
        `RepositoryError`."""
        head = self._held.head
        latest = newest(head)
        if after is None and latest is not None:
            after = latest.sequence
        old, new = await asyncio.gather(self._load(before), self._load(before if after is None else after))
        return await asyncio.to_thread(compare, old.tree, new.tree)

    async def open_file(self, sequence: int, path: str) -> Opened:
        """See `download.open_file`. The content stays readable while the snapshot is retained."""
        record = find(self._held.head, sequence)
        return open_file(self._store, record, await self._load(sequence), path)

    async def open_tar(self, sequence: int, path: str = "") -> Opened:
        """See `download.open_tar`."""
        record = find(self._held.head, sequence)
        return open_tar(self._store, record, await self._load(sequence), path)

    def collection_is_due(self) -> bool:
        """Is it long enough since somebody collected? A time in the future (a clock was wrong) counts as long ago."""
        head = self.head
        if not self.ready or head is None or not head.snapshots:
            return False
        return not 0 <= self._clock.time() - head.collected_at < COLLECT_SECONDS

    async def collect(self, *, rehearse: bool = False, progress: Progress = no_progress) -> Collected:
        """Delete from the bucket what nothing refers to; see `collect.Collector`."""
        async with self._turn:
            collected = await self._collector.collect(
                self._held,
                in_use=self._snapshotter.packs if self._snapshotter else (),
                rehearse=rehearse,
                progress=progress,
            )
            if not rehearse:
                await self._held.update(lambda head: replace_head(head, collected_at=self._clock.time()))
            return collected

    async def release(self) -> None:
        """Let go of the repository, unless the last snapshot did. Raises `Fenced` and store errors."""
        await self._held.release()

    def close(self) -> None:
        """Give back threads."""
        self._stop_writer()
        self._disk.close()
