"""Every retained snapshot as a read-only directory tree, for any tool that speaks fsspec, and for `moltinit mount`.

The first level is one folder for each snapshot, named by its number (`00000042`), and `latest`. Content is fetched by
frames when it is read, verified, and kept for a while.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, TypeVar

from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from supervisor.errors import MoltinitError
from supervisor.snapshot.format import (
    KIND_DIRECTORY,
    KIND_HARDLINK,
    KIND_SYMLINK,
    Head,
    SnapshotRecord,
    pack_key,
)
from supervisor.snapshot.pack import cut_blob, unpack_frame
from supervisor.snapshot.repository import Repository, find, newest
from supervisor.snapshot.tree import Entry, Frame, Tree
from supervisor.store.protocol import Store

LATEST = "latest"
TREES_KEPT = 4
FRAMES_KEPT = 64
"""Unpacked frames in memory: 32 MiB of them as a rule."""

_Result = TypeVar("_Result")


class _Reader:
    """The bucket, from a thread of its own: tools call from wherever they like."""

    def __init__(self, connect: Callable[[], tuple[Store, Repository]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="snapshots", daemon=True)
        self._thread.start()
        self._store, self._repository = self._run(self._connected(connect))
        self._trees: OrderedDict[int, Tree] = OrderedDict()
        self._frames: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    async def _connected(connect: Callable[[], tuple[Store, Repository]]) -> tuple[Store, Repository]:
        return connect()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except MoltinitError as error:
            raise OSError(errno.EIO, error.message) from error

    def head(self) -> Head:
        seen = self._run(self._repository.read())
        if seen is None:
            raise FileNotFoundError(errno.ENOENT, f"{self._store.url} holds no repository")
        return seen.head

    def tree(self, head: Head, record: SnapshotRecord) -> Tree:
        with self._lock:
            if record.sequence not in self._trees:
                self._trees[record.sequence] = self._run(self._repository.load(head, record)).tree
                while len(self._trees) > TREES_KEPT:
                    self._trees.popitem(last=False)
            self._trees.move_to_end(record.sequence)
            return self._trees[record.sequence]

    def content(self, entry: Entry, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of a file."""
        out = bytearray()
        at = 0
        for blob in entry.blobs:
            if at < end and at + blob.length > start:
                try:
                    piece = cut_blob(self._frame(blob.frame), blob)
                except MoltinitError as error:
                    raise OSError(errno.EIO, error.message) from error
                out += piece[max(0, start - at) : end - at]
            at += blob.length
        return bytes(out)

    def _frame(self, frame: Frame) -> bytes:
        place = (frame.pack.id, frame.offset)
        with self._lock:
            if place in self._frames:
                self._frames.move_to_end(place)
                return self._frames[place]
        end = frame.offset + frame.stored
        raw = unpack_frame(self._run(self._store.get_range(pack_key(frame.pack.id), frame.offset, end)), frame)
        with self._lock:
            self._frames[place] = raw
            while len(self._frames) > FRAMES_KEPT:
                self._frames.popitem(last=False)
        return raw

    def close(self) -> None:
        self._run(self._store.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class SnapshotFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """See the module. Every change is refused with `EROFS`; damaged content is `EIO`.

    Args:
        connect: opens the bucket; it is called in the thread that then uses it.
    """

    protocol: ClassVar[str] = "moltinit"
    cachable = False
    root_marker = ""

    def __init__(self, connect: Callable[[], tuple[Store, Repository]], **options: Any) -> None:
        super().__init__(**options)
        self._reader = _Reader(connect)

    def close(self) -> None:
        """Give back the connection."""
        self._reader.close()

    # -- names

    def _find(self, path: str) -> tuple[SnapshotRecord | None, Tree | None, str]:
        top, _, inside = self._strip_protocol(path).strip("/").partition("/")
        if not top:
            return None, None, ""
        head = self._reader.head()
        try:
            record = newest(head) if top == LATEST else find(head, int(top))
        except (ValueError, MoltinitError):
            record = None
        if record is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return record, self._reader.tree(head, record), inside

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The names in a folder; of a file, itself."""
        record, tree, inside = self._find(path)
        if record is None or tree is None:
            head = self._reader.head()
            found = [_top(one, f"{one.sequence:08d}") for one in head.snapshots]
            latest = newest(head)
            found += [_top(latest, LATEST)] if latest else []
        else:
            top = self._strip_protocol(path).strip("/").partition("/")[0]
            if inside and self._entry(tree, inside, path).kind != KIND_DIRECTORY:
                return [self.info(path)] if detail else [self.info(path)["name"]]
            found = [
                _info(top, entry, tree) for name, entry in tree.entries.items() if name.rpartition("/")[0] == inside
            ]
        return found if detail else [one["name"] for one in found]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """fsspec's fields, and `mode`, `mtime` (seconds), `nlink`, `destination` (of a symbolic link)."""
        record, tree, inside = self._find(path)
        if record is None or tree is None:
            return {"name": "", "size": 0, "type": "directory", "mode": stat.S_IFDIR | 0o555, "mtime": 0.0, "nlink": 2}
        top = self._strip_protocol(path).strip("/").partition("/")[0]
        return _info(top, self._entry(tree, inside, path), tree) if inside else _top(record, top)

    @staticmethod
    def _entry(tree: Tree, inside: str, path: str) -> Entry:
        entry = tree.entries.get(inside)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return entry

    # -- content

    def read(self, path: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` of a file (fewer at its end)."""
        _, tree, inside = self._find(path)
        if tree is None or not inside:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        entry = _content(self._entry(tree, inside, path), tree)
        if entry.kind == KIND_DIRECTORY:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return self._reader.content(entry, start, min(end, entry.size))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """A file's bytes, or some of them; negative numbers count from its end."""
        size = self.info(path)["size"]
        first = 0 if start is None else start if start >= 0 else max(0, size + start)
        last = size if end is None else end if end >= 0 else size + end
        return self.read(path, first, last)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> _File:
        if mode != "rb":
            _refuse()
        return _File(self, path, mode, **options)

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        _refuse()

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        _refuse()

    def _rm(self, path: str) -> None:
        _refuse()

    def rm_file(self, path: str) -> None:
        _refuse()

    def rmdir(self, path: str) -> None:
        _refuse()

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        _refuse()

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        _refuse()

    def touch(self, path: str, truncate: bool = True, **_: Any) -> None:
        _refuse()

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        _refuse()


class _File(AbstractBufferedFile):  # type: ignore[misc]
    """Read ahead by fsspec's own cache."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.read(self.path, start, end)
        return data


def _refuse() -> None:
    raise OSError(errno.EROFS, "snapshots do not change")


def _content(entry: Entry, tree: Tree) -> Entry:
    """A hard link's content is that of its other name."""
    return tree.entries[entry.link] if entry.kind == KIND_HARDLINK else entry


def _top(record: SnapshotRecord, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "size": 0,
        "type": "directory",
        "mode": stat.S_IFDIR | 0o555,
        "mtime": record.taken_at,
        "nlink": 2,
    }


def _info(top: str, entry: Entry, tree: Tree) -> dict[str, Any]:
    content = _content(entry, tree)
    kind, bits = {KIND_DIRECTORY: ("directory", stat.S_IFDIR), KIND_SYMLINK: ("link", stat.S_IFLNK)}.get(
        entry.kind, ("file", stat.S_IFREG)
    )
    info: dict[str, Any] = {
        "name": f"{top}/{entry.path}",
        "size": len(os.fsencode(entry.link)) if kind == "link" else content.size,
        "type": kind,
        "mode": bits | (content.mode & 0o777),
        "mtime": content.mtime_ns / 1e9,
        "nlink": 1,
    }
    if kind == "link":
        info["destination"] = entry.link
    return info
