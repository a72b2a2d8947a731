"""Taking a file or a folder out of a retained snapshot, without restoring anything."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from supervisor.errors import NotFound, UsageError
from supervisor.snapshot.archive import archive
from supervisor.snapshot.content import ContentReader
from supervisor.snapshot.format import KIND_FILE, KIND_HARDLINK, SnapshotRecord, decode_path
from supervisor.snapshot.repository import LoadedTree
from supervisor.snapshot.tree import Tree
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
    path = _found(record, loaded.tree, path)
    entry = loaded.tree.entries[path]
    if entry.kind == KIND_HARDLINK:
        entry = loaded.tree.entries[entry.link]
    if entry.kind != KIND_FILE:
        raise UsageError(f"{path!r} is no file in snapshot {record.sequence}", hint="fetch the folder as a tar archive")
    chunks = ContentReader(store, entry.blobs).read(entry.blobs)
    return Opened(path.rpartition("/")[2], chunks, entry.size, entry.mtime_ns / 1e9)


def open_tar(store: Store, record: SnapshotRecord, loaded: LoadedTree, path: str) -> Opened:
    """What lies at and below `path` (all, where it is empty), as a tar archive. Raises `NotFound`."""
    path = _found(record, loaded.tree, path) if path.strip("/") else ""
    last = path.rpartition("/")[2]
    name = f"snapshot-{record.sequence}{f'-{last}' if last else ''}.tar"
    return Opened(name, archive(store, loaded.tree, path), None, record.taken_at)


def _found(record: SnapshotRecord, tree: Tree, path: str) -> str:
    """A path as the tree has it, also where it was given as `diff` shows it. Raises `NotFound`."""
    path = path.strip("/")
    if path in tree.entries:
        return path
    with contextlib.suppress(ValueError):
        if (decoded := decode_path(path)) in tree.entries:
            return decoded
    raise NotFound(f"snapshot {record.sequence} has no {path!r}", hint="`moltinit diff` and `mount` show what it has")
