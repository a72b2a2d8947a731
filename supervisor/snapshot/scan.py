"""One walk over the tree: every name with its signature. It reads no content and follows no link.

scandir + lstat of 10,000 files take 40 ms, so every snapshot begins with a full walk: file watchers miss files in fresh
directories, and only say *when* to look.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter, deque
from dataclasses import dataclass

import msgspec

from supervisor.snapshot.format import MAX_DEPTH, MAX_PATH_BYTES
from supervisor.snapshot.rules import SkipRules


class Signature(msgspec.Struct, frozen=True, gc=False):
    """What `lstat` says of a name; equal signatures mean equal content (but see `Found.settled`)."""

    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        return cls(
            status.st_mode,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
            status.st_dev,
        )


class Found(msgspec.Struct, frozen=True, gc=False):
    """One name that the walk found."""

    path: str
    signature: Signature
    links: int

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.signature.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.signature.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.signature.mode)


@dataclass(frozen=True, slots=True)
class Scan:
    """All names in path order, how many were left out for which reason, and the directories that could not be read
    (what was known of them before must be carried over: unread is not empty). `left_out` are some of the names that no
    snapshot can hold."""

    found: dict[str, Found]
    skipped: dict[str, int]
    unreadable: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


_SPECIAL = {
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def scan(root: str | os.PathLike[str], rules: SkipRules) -> Scan:
    """Walk below `root`; names that vanish meanwhile are left out. Raises `OSError` where the root cannot be read."""
    walk = _Walk(rules)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        walk.below(fd, "", 0)
    finally:
        os.close(fd)
    walk.names.sort(key=lambda found: found.path)
    return Scan(
        {found.path: found for found in walk.names}, dict(walk.skipped), tuple(walk.unreadable), tuple(walk.left_out)
    )


LEFT_OUT_NAMES = 10


class _Walk:
    def __init__(self, rules: SkipRules) -> None:
        self.names: list[Found] = []
        self.skipped: Counter[str] = Counter()
        self.unreadable: list[str] = []
        self.left_out: deque[str] = deque(maxlen=LEFT_OUT_NAMES)
        self._rules = rules

    def below(self, fd: int, prefix: str, depth: int) -> None:
        directories = []
        with os.scandir(fd) as listing:
            for name in listing:
                try:
                    status = name.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except PermissionError:
                    if not prefix:
                        raise
                    # It may be listed but not searched: none of its names can be looked at.
                    self._unread(prefix.rstrip("/"))
                    return
                if self._take(prefix + name.name, status, depth):
                    directories.append(name.name)
        for directory in directories:
            self._enter(fd, directory, prefix + directory, depth)

    def _take(self, path: str, status: os.stat_result, depth: int) -> bool:
        """Note the name; True for a directory to enter."""
        kind = stat.S_IFMT(status.st_mode)
        is_directory = kind == stat.S_IFDIR
        if self._rules.skips(path, is_directory=is_directory):
            return False
        if kind in _SPECIAL:
            self.skipped[_SPECIAL[kind]] += 1
            return False
        if depth >= MAX_DEPTH or (len(path) * 3 > MAX_PATH_BYTES and len(os.fsencode(path)) > MAX_PATH_BYTES):
            # No reader takes it: with it the whole snapshot could not be restored.
            self.skipped["too-deep"] += 1
            self.left_out.append(path)
            return False
        self.names.append(Found(path, Signature.of(status), status.st_nlink))
        return is_directory

    def _unread(self, directory: str) -> None:
        self.skipped["unreadable"] += 1
        self.unreadable.append(directory)

    def _enter(self, fd: int, name: str, path: str, depth: int) -> None:
        try:
            inner = os.open(name, _OPEN_DIRECTORY, dir_fd=fd)
        except (FileNotFoundError, NotADirectoryError):
            return  # removed or replaced since it was listed: the next walk sees what it is now
        except PermissionError:
            self._unread(path)
            return
        except OSError as error:
            if error.errno == errno.ELOOP:
                return
            raise
        try:
            self.below(inner, path + "/", depth + 1)
        finally:
            os.close(inner)
