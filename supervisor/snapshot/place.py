"""The disk's side of a restore: remove what does not belong, write content under temporary names, rename, set modes
and times. Everything happens relative to directory descriptors, so a link planted in the old tree leads nowhere."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path

from supervisor.snapshot.capture import SETTLE_NS, Known
from supervisor.snapshot.closed import OWNER, admit, admit_below, remove_tree
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
from supervisor.snapshot.scan import Found, Scan, Signature, scan
from supervisor.snapshot.sqlite import SIDE_FILES
from supervisor.snapshot.tree import Blob, Entry, Frame, Tree

SAFE_MODES = 0o1777
"""Set-user-id and set-group-id are never restored: a manifest must not be able to plant a privileged program."""

CREATED_MODE = 0o600

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


TEMPORARY = ".moltinit-"


class _Target:
    """A file of several pieces that is being written, under its temporary name; `missing` are still waited for."""

    __slots__ = ("created", "entry", "missing", "temporary")

    def __init__(self, entry: Entry, temporary: str) -> None:
        self.entry = entry
        self.missing = 0
        self.created = False
        self.temporary = temporary


class Placer:
    """One restore's work on the disk. Whoever calls `place` holds `writing`; the rest is for one thread."""

    def __init__(self, root: Path, tree: Tree, *, rules: SkipRules) -> None:
        self._path = root
        self._tree = tree
        self._rules = rules
        self._root: Root | None = None
        # A file of one piece waits as its entry alone: most files do, and there may be a hundred thousand.
        self._whole: dict[Frame, list[Entry]] = {}
        self._parts: dict[Frame, dict[Blob, list[tuple[_Target, int]]]] = {}
        self._reusable: dict[str, Entry] = {}
        self._signatures: dict[str, Signature] = {}
        self._numbers = count()
        self._shared: dict[int, int] = {}
        self._prefix = TEMPORARY
        self._umask = _umask()
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
        admit(self._path.resolve())
        self._root = Root(self._path)
        found = self._walk().found
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

    def _walk(self) -> Scan:
        """Everything that is there, in directories that can be written; `finish` gives those that stay their modes."""
        walked = scan(self._path, self._rules)
        closed = [path for path, item in walked.found.items() if item.is_directory and ~item.signature.mode & OWNER]
        for path in closed:
            directory, name = self._open.parent(path)
            admit(name, directory)
        if walked.unreadable:
            admit_below(self._open, walked.unreadable, self._rules)
            walked = scan(self._path, self._rules)
        return walked

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
            remove_tree(name, directory)

    def _make_directory(self, path: str) -> None:
        directory, name = self._open.parent(path)
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                self._clear(path)
                os.mkdir(name, 0o700, dir_fd=directory)

    def _expect(self, missing: list[Entry]) -> None:
        self._prefix = self._free_prefix()
        for entry in missing:
            if entry.kind != KIND_FILE:
                continue
            if entry.path not in self._reusable:
                if not entry.blobs:
                    self._write_whole(entry, memoryview(b""))
                    continue
                if len(entry.blobs) == 1 and entry.blobs[0].hash != HOLE:
                    self._whole.setdefault(entry.blobs[0].frame, []).append(entry)
                    continue
            target = _Target(entry, self._temporary())
            offset = 0
            for blob in self._not_reused(target):
                if isinstance(blob, int):
                    offset += blob
                    continue
                self._parts.setdefault(blob.frame, {}).setdefault(blob, []).append((target, offset))
                offset += blob.length

    def _temporary(self) -> str:
        return f"{self._prefix}{next(self._numbers)}~"

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
        target.missing = len(target.entry.blobs)
        pieces: list[Blob | int] = []
        try:
            source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        except OSError:  # not readable: all of it is fetched
            return self._without_holes(target)
        try:
            into = self._create(target.entry, target.temporary)
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
                    self._complete(target.entry, target.temporary, into)
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
            fd = self._create(target.entry, target.temporary)
            try:
                self._complete(target.entry, target.temporary, fd)
            finally:
                os.close(fd)
        return pieces

    # -- content

    def wanted(self, class_of: Callable[[str], int]) -> dict[Frame, int]:
        """The frames that are waited for, each with the lowest class of what waits for it."""
        wanted = {frame: min(class_of(entry.path) for entry in entries) for frame, entries in self._whole.items()}
        for frame, blobs in self._parts.items():
            lowest = min(class_of(target.entry.path) for places in blobs.values() for target, _ in places)
            wanted[frame] = min(lowest, wanted.get(frame, lowest))
        return wanted

    def wanted_blobs(self, frame: Frame) -> set[Blob]:
        """Which of a frame's blobs some file waits for."""
        return {*(entry.blobs[0] for entry in self._whole.get(frame, ())), *self._parts.get(frame, ())}

    def place(self, frame: Frame, contents: Mapping[Blob, memoryview]) -> None:
        """Write verified content to every place that waits for it."""
        for entry in self._whole.pop(frame, ()):
            self._write_whole(entry, contents[entry.blobs[0]])
        for blob, places in self._parts.pop(frame, {}).items():
            for target, offset in places:
                self._write_part(target, offset, contents[blob])

    def _write_whole(self, entry: Entry, content: memoryview) -> None:
        temporary = self._temporary()
        fd = self._create(entry, temporary)
        try:
            _write(fd, content, 0)
            self.placed_bytes += len(content)
            self._complete(entry, temporary, fd)
        finally:
            os.close(fd)

    def _write_part(self, target: _Target, offset: int, content: memoryview) -> None:
        fd = self._reopen(target) if target.created else self._create(target.entry, target.temporary)
        target.created = True
        try:
            _write(fd, content, offset)
            self.placed_bytes += len(content)
            target.missing -= 1
            if target.missing == 0:
                self._complete(target.entry, target.temporary, fd)
        finally:
            os.close(fd)

    def _create(self, entry: Entry, temporary: str) -> int:
        """With the mode that it is to have, where that spares setting it; whoever reopens a file must be able to."""
        directory, _ = self._open.parent(entry.path)
        mode = self._mode_at_creation(entry)
        try:
            return os.open(temporary, _CREATE, mode, dir_fd=directory)
        except FileExistsError:
            self._clear(f"{above}/{temporary}" if (above := entry.path.rpartition("/")[0]) else temporary)
            directory, _ = self._open.parent(entry.path)
            return os.open(temporary, _CREATE, mode, dir_fd=directory)

    def _mode_at_creation(self, entry: Entry) -> int:
        mode = entry.mode & SAFE_MODES
        return mode if mode & CREATED_MODE == CREATED_MODE and not mode & (self._umask | ~0o777) else CREATED_MODE

    def _reopen(self, target: _Target) -> int:
        directory, _ = self._open.parent(target.entry.path)
        return os.open(target.temporary, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)

    def _complete(self, entry: Entry, temporary: str, fd: int) -> None:
        directory, name = self._open.parent(entry.path)
        mode = entry.mode & SAFE_MODES
        if mode != self._mode_at_creation(entry):
            os.fchmod(fd, mode)
        if entry.blobs and entry.blobs[-1].hash == HOLE:
            os.truncate(fd, entry.size)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        try:
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except IsADirectoryError:
            self._clear(entry.path)
            directory, name = self._open.parent(entry.path)
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        self._signatures[entry.path] = self._signature(os.fstat(fd), entry)

    def _signature(self, status: os.stat_result, entry: Entry) -> Signature:
        """Equal numbers are one number in memory: a signature of its own takes three times as much."""
        share = self._shared.setdefault
        blobs = entry.blobs
        return Signature(
            share(status.st_mode, status.st_mode),
            blobs[0].length if len(blobs) == 1 and blobs[0].length == status.st_size else status.st_size,
            entry.mtime_ns if entry.mtime_ns == status.st_mtime_ns else status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
            share(status.st_dev, status.st_dev),
        )

    # -- after

    def finish(self) -> dict[str, Known]:
        """Links, then the directories' modes and times from the inside out; returns what is now known of the tree."""
        for frame in (*self._whole, *self._parts):
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


def _write(fd: int, content: memoryview, offset: int) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(fd, content[written:] if written else content, offset + written)


def _umask() -> int:
    """Read where reading does not change it for other threads."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o777


def _copy_piece(source: int, into: int, blob: Blob, offset: int) -> bool:
    """Take over what the old file has at this place, where it is the same."""
    data = os.pread(source, blob.length, offset)
    if len(data) != blob.length or digest(data) != blob.hash:
        return False
    os.pwrite(into, data, offset)
    return True
