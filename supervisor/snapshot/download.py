"""Taking a file or a folder out of a retained snapshot, without restoring anything."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from supervisor.errors import NotFound, UsageError
from supervisor.snapshot.archive import archive
from supervisor.snapshot.content import ContentReader
from supervisor.snapshot.format import KIND_FILE, KIND_HARDLINK, SnapshotRecord
from supervisor.snapshot.repository import LoadedTree
from supervisor.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Opened:
    """Content that may be read once: a name for it, its size in bytes where it is known beforehand, and its time in
    seconds since 1970."""

    name: str
    chunks: AsyncGenerator[bytes, None]
    size: int | None
    modified: float


def open_file(store: Store, record: SnapshotRecord, loaded: LoadedTree, path: str) -> Opened:
    """One file. Raises `NotFound`, and `UsageError` for what is no file."""
    path = path.strip("/")
    entry = loaded.tree.entries.get(path)
    if entry is None:
        raise NotFound(
            f"snapshot {record.sequence} has no {path!r}", hint="`moltinit diff` and `mount` show what it has"
        )
    if entry.kind == KIND_HARDLINK:
        entry = loaded.tree.entries[entry.link]
    if entry.kind != KIND_FILE:
        raise UsageError(f"{path!r} is no file in snapshot {record.sequence}", hint="fetch the folder as a tar archive")
    chunks = ContentReader(store, entry.blobs).read(entry.blobs)
    return Opened(path.rpartition("/")[2], chunks, entry.size, entry.mtime_ns / 1e9)


def open_tar(store: Store, record: SnapshotRecord, loaded: LoadedTree, path: str) -> Opened:
    """What lies at and below `path` (all, where it is empty), as a tar archive. Raises `NotFound`."""
    path = path.strip("/")
    if path and path not in loaded.tree.entries:
        raise NotFound(
            f"snapshot {record.sequence} has no {path!r}", hint="`moltinit diff` and `mount` show what it has"
        )
    last = path.rpartition("/")[2]
    name = f"snapshot-{record.sequence}{f'-{last}' if last else ''}.tar"
    return Opened(name, archive(store, loaded.tree, path), None, record.taken_at)
