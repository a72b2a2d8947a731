"""The retained snapshots and the rescued states, as operators handle them: find, pin, note, forget, compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from supervisor.errors import NotFound, ObjectNotFound, RepositoryError, UsageError
from supervisor.snapshot import format as fmt
from supervisor.snapshot.claim import Claim
from supervisor.snapshot.format import Head, SnapshotRecord, replace_head, replace_record
from supervisor.snapshot.repository import LoadedTree, Repository, find, newest
from supervisor.snapshot.tree import read_tree

RESTORE_REASON = "restore"
BEFORE_RESTORE = "before-restore"
BEFORE_UPGRADE = "before-upgrade"
"""Reasons and pins that moltinit itself gives."""


@dataclass(frozen=True, slots=True)
class Rescued:
    """What a fenced writer could not commit: its manifest's key, when it was stored, the manifest's bytes."""

    key: str
    stored_at: float
    manifest_bytes: int


async def rescues(repository: Repository) -> list[Rescued]:
    """All of them, the newest first. Raises store errors."""
    found = [Rescued(i.key, i.modified, i.size) async for i in repository.store.list(fmt.RESCUE_PREFIX)]
    return sorted(found, key=lambda rescued: rescued.stored_at, reverse=True)


async def load_rescued(repository: Repository, head: Head, key: str) -> LoadedTree:
    """A rescued state's tree. Raises `UsageError` for an unknown key, and `RepositoryError`."""
    if not key.startswith(fmt.RESCUE_PREFIX) or not key.removeprefix(fmt.RESCUE_PREFIX).replace("-", "").isalnum():
        raise UsageError(f"{key!r} is no rescued state", hint="`moltinit snapshots` lists them: rescue/...")
    try:
        data = (await repository.fetch(key, fmt.MAX_STORED_MANIFEST_BYTES)).data
    except ObjectNotFound as error:
        raise NotFound(f"there is no rescued state {key}", hint="`moltinit snapshots` lists them") from error
    manifest = fmt.decode_manifest(data, key)
    if manifest.repository != head.repository:
        raise RepositoryError(f"{key} belongs to the repository {manifest.repository}, not to {head.repository}")
    tree = read_tree(manifest, key)
    return LoadedTree(tree, key, tree, len(data))


async def annotate(claim: Claim, sequence: int, *, pin: str | None = None, note: str | None = None) -> SnapshotRecord:
    """Change a snapshot's pin (empty: retention may drop it again) or note. Raises `UsageError` and `Fenced`."""

    def change(record: SnapshotRecord) -> SnapshotRecord:
        return replace_record(
            record,
            pin=record.pin if pin is None else pin,
            note=record.note if note is None else note,
        )

    head = await claim.update(lambda head: _with(head, sequence, change))
    return find(head, sequence)


def _with(head: Head, sequence: int, change: Callable[[SnapshotRecord], SnapshotRecord]) -> Head | None:
    old = find(head, sequence)
    new = change(old)
    if new == old:
        return None
    return replace_head(head, snapshots=[new if record is old else record for record in head.snapshots])


async def forget(claim: Claim, sequence: int) -> None:
    """Drop a snapshot from the list; the next collection deletes what only it refers to. Raises `UsageError` (also
    for the one that the next life would restore) and `Fenced`."""

    def change(head: Head) -> Head:
        record = find(head, sequence)
        latest = newest(head)
        if latest is not None and latest.sequence == sequence:
            raise UsageError(
                f"snapshot {sequence} is the newest: the next life carries on from it",
                hint="restore another one first; then this one may be forgotten",
            )
        return replace_head(head, snapshots=[kept for kept in head.snapshots if kept is not record])

    await claim.update(change)


def last_restore(head: Head) -> SnapshotRecord:
    """The pinned state from before the last restore. Raises `UsageError` where there is none."""
    for at in reversed(range(1, len(head.snapshots))):
        if head.snapshots[at].reason == RESTORE_REASON:
            for record in reversed(head.snapshots[:at]):
                if record.reason == BEFORE_RESTORE:
                    return record
            break
    raise UsageError("there is no restore to undo", hint="`moltinit snapshots` lists what can be restored")
