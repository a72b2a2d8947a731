"""The disk's side of a restore: remove what does not belong, write content under temporary names, rename, set modes
and times. Everything happens relative to directory descriptors, so a link planted in the old tree leads nowhere."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path

from supervisor.snapshot.capture import SETTLE_NS, Known
from supervisor.snapshot.descend import Root
from supervisor.snapshot.format import (
    FLAG_DATABASE,
    KIND_DIRECTORY,
    KIND_FILE,
    KIND_HARDLINK,
    KIND_SYMLINK,
)
from supervisor.snapshot.pack import HOLE, digest
from supervisor.snapshot.rules import SkipRules
from supervisor.snapshot.scan import Found, Signature, scan
from supervisor.snapshot.sqlite import SIDE_FILES
from supervisor.snapshot.tree import Blob, Entry, Frame, Tree

SAFE_MODES = 0o1777
"""Set-user-id and set-group-id are never restored: a manifest must not be able to plant a privileged program."""

CREATED_MODE = 0o600

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


TEMPORARY = ".moltinit-"


class _Target:
    """A file that is being written, under its temporary name."""

    __slots__ = ("created", "entry", "missing", "temporary")

    def __init__(self, entry: Entry, temporary: str) -> None:
        self.entry = entry
        self.missing = len(entry.blobs)
        self.created = False
        self.temporary = temporary


class Placer:
    """One restore's work on the disk. Whoever calls `place` holds `writing`; the rest is for one thread."""

    def __init__(self, root: Path, tree: Tree, *, rules: SkipRules) -> None:
        self._path = root
        self._tree = tree
        self._rules = rules
        self._root: Root | None = None
        self._wanted: dict[Frame, dict[Blob, list[tuple[_Target, int]]]] = {}
        self._reusable: dict[str, Entry] = {}
        self._signatures: dict[str, Signature] = {}
        self.writing = threading.Lock()
        self.placed_bytes = 0

    def close(self) -> None:
        """Give back descriptors."""
        if self._root is not None:
            self._root.close()
            self._root = None

    @property
    def _open(self) -> Root:
        if self._root is None:
            raise RuntimeError("prepare() comes first")
        return self._root

    # -- before

    def prepare(self, known: Mapping[str, Known]) -> list[Entry]:
        """Remove what is not in the tree, make directories, take over what old versions of large files have in common
        with the new ones, and say which entries have to be written."""
        self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._root = Root(self._path)
        found = scan(self._path, self._rules).found
        keep = {path for path, item in found.items() if self._is_as_wanted(path, item, found, known)}
        self._signatures = {path: found[path].signature for path in keep}
        self._reusable = {
            path: known[path].entry
            for path, item in found.items()
            if path not in keep and item.is_file and self._shares_content(path, known)
        }
        self._remove(path for path in found if path not in keep and path not in self._reusable)
        for path, entry in self._tree.entries.items():
            if entry.kind == KIND_DIRECTORY and path not in keep:
                self._make_directory(path)
            if FLAG_DATABASE in entry.flags:
                for suffix in SIDE_FILES:
                    self._clear(path + suffix)
        missing = [
            entry for path, entry in self._tree.entries.items() if path not in keep and entry.kind != KIND_DIRECTORY
        ]
        self._check_room(sum(blob.length for entry in missing for blob in entry.blobs if blob.hash != HOLE))
        self._expect(missing)
        return missing

    def _check_room(self, wanted: int) -> None:
        """Before anything is fetched: a disk that fills up half way costs minutes, and a manifest may lie."""
        status = os.fstatvfs(self._open.fd)
        free = status.f_bavail * status.f_frsize
        if wanted > free:
            raise OSError(errno.ENOSPC, f"{wanted} bytes are to be restored and {free} are free", str(self._path))

    def _shares_content(self, path: str, known: Mapping[str, Known]) -> bool:
        entry, before = self._tree.entries.get(path), known.get(path)
        return (
            entry is not None
            and before is not None
            and entry.kind == before.entry.kind == KIND_FILE
            and len(entry.blobs) > 1
            and len(before.entry.blobs) > 1
        )

    def _is_as_wanted(self, path: str, item: Found, found: Mapping[str, Found], known: Mapping[str, Known]) -> bool:
        entry = self._tree.entries.get(path)
        if entry is None:
            return False
        if entry.kind == KIND_DIRECTORY:
            return item.is_directory
        before = known.get(path)
        if before is None or not before.settled or entry.kind != KIND_FILE:
            return False
        # A database with a log beside it is more than its file.
        alone = FLAG_DATABASE not in entry.flags or not any(path + suffix in found for suffix in SIDE_FILES)
        sides = before.signatures[1:]
        unchanged = before.signatures[:1] == (item.signature,) and not any(sides)
        return alone and unchanged and entry.same_as(before.entry)

    def _remove(self, paths: Iterable[str]) -> None:
        for path in sorted(paths, reverse=True):  # what is inside comes before what it is in
            directory, name = self._open.parent(path)
            try:
                os.unlink(name, dir_fd=directory)
            except IsADirectoryError:
                self._open.forget()
                directory, name = self._open.parent(path)
                with contextlib.suppress(OSError):  # it holds names that the rules leave alone
                    os.rmdir(name, dir_fd=directory)
            except FileNotFoundError:
                continue

    def _clear(self, path: str) -> None:
        """Make way for `path`, whatever is there."""
        try:
            directory, name = self._open.parent(path)
            os.unlink(name, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError):
            return
        except IsADirectoryError:
            self._open.forget()
            directory, name = self._open.parent(path)
            shutil.rmtree(name, dir_fd=directory)

    def _make_directory(self, path: str) -> None:
        directory, name = self._open.parent(path)
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                self._clear(path)
                os.mkdir(name, 0o700, dir_fd=directory)

    def _expect(self, missing: list[Entry]) -> None:
        prefix = self._free_prefix()
        for number, entry in enumerate(missing):
            if entry.kind != KIND_FILE:
                continue
            target = _Target(entry, f"{prefix}{number}~")
            offset = 0
            for blob in self._not_reused(target):
                if isinstance(blob, int):
                    offset += blob
                    continue
                self._wanted.setdefault(blob.frame, {}).setdefault(blob, []).append((target, offset))
                offset += blob.length

    def _free_prefix(self) -> str:
        """Temporary names begin with something that no name in the tree begins with."""
        taken = {name for path in self._tree.entries if (name := path.rpartition("/")[2]).startswith(TEMPORARY)}
        tries = (f"{TEMPORARY}{number}-" for number in count())
        return next(prefix for prefix in tries if not any(name.startswith(prefix) for name in taken))

    def _not_reused(self, target: _Target) -> list[Blob | int]:
        """The pieces that must be fetched; where the old version of the file has the same piece at the same place,
        it is copied and only its length is returned."""
        old = self._reusable.get(target.entry.path)
        if old is None:
            return self._without_holes(target)
        directory, name = self._open.parent(target.entry.path)
        pieces: list[Blob | int] = []
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            into = self._create(target)
            target.created = True
            try:
                offset = 0
                for blob in target.entry.blobs:
                    if blob.hash == HOLE or _copy_piece(source, into, blob, offset):
                        target.missing -= 1
                        pieces.append(blob.length)
                    else:
                        pieces.append(blob)
                    offset += blob.length
                if target.missing == 0:
                    self._complete(target, into)
            finally:
                os.close(into)
        finally:
            os.close(source)
        return pieces

    def _without_holes(self, target: _Target) -> list[Blob | int]:
        """Zeros are neither fetched nor written: a sparse file comes back as one."""
        pieces: list[Blob | int] = [blob.length if blob.hash == HOLE else blob for blob in target.entry.blobs]
        target.missing = sum(1 for piece in pieces if isinstance(piece, Blob))
        if target.missing == 0:
            fd = self._create(target)
            try:
                self._complete(target, fd)
            finally:
                os.close(fd)
        return pieces

    # -- content

    def wanted(self) -> dict[Frame, list[str]]:
        """The frames that are waited for, each with the paths that wait for it."""
        return {
            frame: [target.entry.path for places in blobs.values() for target, _ in places]
            for frame, blobs in self._wanted.items()
        }

    def wanted_blobs(self, frame: Frame) -> list[Blob]:
        """Which of a frame's blobs some file waits for."""
        return list(self._wanted.get(frame, ()))

    def place(self, blob: Blob, content: memoryview) -> None:
        """Write verified content to every place that waits for it."""
        for target, offset in self._wanted[blob.frame].pop(blob):
            fd = self._reopen(target) if target.created else self._create(target)
            target.created = True
            try:
                written = 0
                while written < len(content):
                    written += os.pwrite(fd, content[written:], offset + written)
                target.missing -= 1
                self.placed_bytes += len(content)
                if target.missing == 0:
                    self._complete(target, fd)
            finally:
                os.close(fd)

    def _create(self, target: _Target) -> int:
        directory, _ = self._open.parent(target.entry.path)
        try:
            return os.open(target.temporary, _CREATE, CREATED_MODE, dir_fd=directory)
        except FileExistsError:
            os.unlink(target.temporary, dir_fd=directory)
            return os.open(target.temporary, _CREATE, CREATED_MODE, dir_fd=directory)

    def _reopen(self, target: _Target) -> int:
        directory, _ = self._open.parent(target.entry.path)
        return os.open(target.temporary, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)

    def _complete(self, target: _Target, fd: int) -> None:
        directory, name = self._open.parent(target.entry.path)
        mode = target.entry.mode & SAFE_MODES
        if mode != CREATED_MODE:
            os.fchmod(fd, mode)
        if target.entry.blobs and target.entry.blobs[-1].hash == HOLE:
            os.truncate(fd, target.entry.size)
        os.utime(fd, ns=(target.entry.mtime_ns, target.entry.mtime_ns))
        try:
            os.rename(target.temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except IsADirectoryError:
            self._clear(target.entry.path)
            directory, name = self._open.parent(target.entry.path)
            os.rename(target.temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        self._signatures[target.entry.path] = Signature.of(os.fstat(fd))

    # -- after

    def finish(self) -> dict[str, Known]:
        """Links, then the directories' modes and times from the inside out; returns what is now known of the tree."""
        for frame, blobs in self._wanted.items():
            if blobs:
                raise RuntimeError(f"frame {frame.offset} of pack {frame.pack.id} was never placed")
        entries = self._tree.entries
        for kind, make in ((KIND_HARDLINK, self._link), (KIND_SYMLINK, self._symlink)):
            for entry in entries.values():
                if entry.kind == kind:
                    make(entry)
        for path in reversed(list(entries)):
            if entries[path].kind == KIND_DIRECTORY:
                self._finish_directory(entries[path])
        self._open.forget()
        return self._learn()

    def _link(self, entry: Entry) -> None:
        self._clear(entry.path)
        source_directory, source = self._open.parent(entry.link)
        source_directory = os.dup(source_directory)
        try:
            directory, name = self._open.parent(entry.path)
            os.link(source, name, src_dir_fd=source_directory, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(source_directory)
        self._look_again(entry.path)
        self._look_again(entry.link)

    def _symlink(self, entry: Entry) -> None:
        self._clear(entry.path)
        directory, name = self._open.parent(entry.path)
        os.symlink(entry.link, name, dir_fd=directory)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=directory, follow_symlinks=False)
        self._look_again(entry.path)

    def _finish_directory(self, entry: Entry) -> None:
        fd = self._open.directory(entry.path)
        os.fchmod(fd, entry.mode & SAFE_MODES)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        self._signatures[entry.path] = Signature.of(os.fstat(fd))

    def _look_again(self, path: str) -> None:
        directory, name = self._open.parent(path)
        self._signatures[path] = Signature.of(os.stat(name, dir_fd=directory, follow_symlinks=False))

    def recall_rules(self) -> None:
        """Ask the rules about every name: they remember their answers. May run beside everything else."""
        for path, entry in self._tree.entries.items():
            self._rules.skips(path, is_directory=entry.kind == KIND_DIRECTORY)

    def _learn(self) -> dict[str, Known]:
        """What the next walk will find, if nobody changes anything."""
        now = time.time_ns()
        known: dict[str, Known] = {}
        skipped: set[str] = set()
        for path, entry in self._tree.entries.items():
            is_directory = entry.kind == KIND_DIRECTORY
            if path.rpartition("/")[0] in skipped or self._rules.skips(path, is_directory=is_directory):
                if is_directory:
                    skipped.add(path)
                continue
            signature = self._signatures[path]
            signatures: tuple[Signature | None, ...] = (signature,)
            if FLAG_DATABASE in entry.flags:
                signatures = (signature, None, None)
            known[path] = Known(signatures, entry, now - signature.ctime_ns > SETTLE_NS)
        return known


def _copy_piece(source: int, into: int, blob: Blob, offset: int) -> bool:
    """Take over what the old file has at this place, where it is the same."""
    data = os.pread(source, blob.length, offset)
    if len(data) != blob.length or digest(data) != blob.hash:
        return False
    os.pwrite(into, data, offset)
    return True
