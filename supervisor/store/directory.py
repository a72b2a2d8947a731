"""The blocking half of the local bucket: everything here runs in a worker thread and raises `OSError` freely.

Below the root, `.moltinit/` holds the lock and the files still being written; all else is objects.
"""

from __future__ import annotations

import builtins
import fcntl
import os
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from supervisor.errors import BucketNotFound, ObjectNotFound, StoreError, StoreUnavailable
from supervisor.store.keys import check_key, check_size, key_problem
from supervisor.store.protocol import ObjectInfo, StoredObject

_PRIVATE = ".moltinit"
_ABANDONED_SECONDS = 24 * 3600.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.0005, 0.02
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class BucketDirectory:
    """Objects as files. Files are never changed in place: a write makes a new one, durable before it takes
    the name, and whatever takes or removes a name does so under a lock shared between processes."""

    def __init__(self, root: str, lock_seconds: float) -> None:
        self._root = root
        self._lock_seconds = lock_seconds
        self._opening = threading.Lock()
        self._identity: tuple[int, int] | None = None
        self._swept = False
        self._pin: int | None = None

    def get(self, key: str, limit: int | None) -> StoredObject:
        with self._opened(key) as (fd, status):
            check_size(key, status.st_size, limit)
            data = _read(fd, 0, status.st_size)
        if len(data) != status.st_size:
            raise StoreUnavailable(f"object {key!r} in {self._root} changed while it was read")
        return StoredObject(data, _etag(status))

    def get_range(self, key: str, start: int, end: int) -> bytes:
        with self._opened(key) as (fd, status):
            return _read(fd, start, min(end, status.st_size) - start)

    def stat(self, key: str) -> ObjectInfo:
        with self._opened(key) as (_, status):
            return _info(key, status)

    def write(self, key: str, data: bytes, check: Callable[[str | None], None]) -> str:
        """Write if `check`, given the ETag of what is there now, does not raise; returns the new ETag."""
        path = self._path(key)
        self._require_bucket()
        temporary, written = self._write_temporary(data)
        try:
            with self._exclusive():
                current = _stat_or_none(path)
                check(None if current is None else _etag(current))
                etag = _etag(_dated_after(current, temporary, written))
                changed = self._make_directories(key)
                os.rename(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        for directory in changed:
            _fsync_directory(directory)
        return etag

    def list(self, prefix: str) -> builtins.list[ObjectInfo]:
        self._require_bucket()
        found = []
        pending = [prefix.rpartition("/")[0]]
        while pending:
            directory = pending.pop()
            with suppress(*_ABSENT), os.scandir(f"{self._root}/{directory}") as entries:
                for entry in entries:
                    key = f"{directory}/{entry.name}" if directory else entry.name
                    if key == _PRIVATE or key_problem(key):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(key)
                    elif key.startswith(prefix) and entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):
                            found.append(_info(key, entry.stat(follow_symlinks=False)))
        self._require_bucket()
        return sorted(found, key=lambda info: info.key)

    def delete(self, keys: Iterable[str]) -> None:
        paths = [self._path(key) for key in keys]
        self._require_bucket()
        if not any(map(os.path.lexists, paths)):
            return
        with self._exclusive():
            for path in paths:
                with suppress(*_ABSENT):
                    os.unlink(path)

    def close(self) -> None:
        """Let go of the directory."""
        if self._pin is not None:
            os.close(self._pin)
            self._pin = None

    def _path(self, key: str) -> str:
        if check_key(key).split("/", 1)[0] == _PRIVATE:
            raise StoreError(f"object key {key!r} cannot be used: {_PRIVATE}/ is the store's own")
        return f"{self._root}/{key}"

    def _require_bucket(self) -> None:
        with self._opening:
            if self._identity is None:
                os.makedirs(self._root, mode=0o700, exist_ok=True)
                # Held open, so that the inode cannot be given to the directory that takes its place.
                self._pin = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._identity = _identity(self._root)
        try:
            same = _identity(self._root) == self._identity
        except _ABSENT:
            same = False
        if not same:
            raise BucketNotFound(
                f"the bucket directory {self._root} has vanished or was replaced",
                hint="If it is on a mounted disk, mount it again.",
            )

    @contextmanager
    def _opened(self, key: str) -> Iterator[tuple[int, os.stat_result]]:
        path = self._path(key)
        self._require_bucket()
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except _ABSENT as error:
            self._require_bucket()
            raise ObjectNotFound(f"there is no object {key!r} in {self._root}") from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise ObjectNotFound(f"there is no object {key!r} in {self._root}")
            yield fd, status
        finally:
            os.close(fd)

    def _private(self) -> str:
        directory = f"{self._root}/{_PRIVATE}"
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        return directory

    def _write_temporary(self, data: bytes) -> tuple[str, os.stat_result]:
        directory = f"{self._private()}/writing"
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        if not self._swept:
            self._swept = True
            _sweep(directory)
        path = f"{directory}/{uuid.uuid4().hex}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            _set_modified(fd, time.time_ns())
            os.fsync(fd)
            return path, os.fstat(fd)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(fd)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the bucket's lock. It is asked for again and again rather than waited for, because a stopped
        process that holds it must not hang this thread for ever."""
        fd = os.open(f"{self._private()}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline, pause = time.monotonic() + self._lock_seconds, _FIRST_PAUSE_SECONDS
            while not _try_lock(fd):
                if time.monotonic() >= deadline:
                    raise StoreUnavailable(
                        f"another process has held the lock of {self._root} for {self._lock_seconds:g} s",
                        hint="Look for a stopped or hanging moltinit.",
                    )
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            yield
        finally:
            os.close(fd)

    def _make_directories(self, key: str) -> builtins.list[str]:
        """Make the directories that `key` lies in (never the root: it may have vanished); returns those whose
        entries change with this write."""
        changed, directory = [], self._root
        for segment in key.split("/")[:-1]:
            parent, directory = directory, f"{directory}/{segment}"
            try:
                os.mkdir(directory, 0o700)
            except FileExistsError:
                continue
            changed.append(parent)
        return [*changed, directory]


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _etag(status: os.stat_result) -> str:
    # Sound, because a file is never changed but replaced, under the lock, by one dated later to the nanosecond
    # (`_dated_after`). The inode tells versions apart where a file system keeps coarse times, and where a
    # deleted key comes back after the clock was set back.
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def _dated_after(current: os.stat_result | None, path: str, written: os.stat_result) -> os.stat_result:
    """Date the file that is about to replace `current` later than it, whatever the clock did meanwhile."""
    if current is None or written.st_mtime_ns > current.st_mtime_ns:
        return written
    _set_modified(path, current.st_mtime_ns + 1)
    return os.stat(path)


def _set_modified(file: int | str, nanoseconds: int) -> None:
    # Set, not left to the kernel: its own stamps advance in ticks of up to 10 ms.
    os.utime(file, ns=(nanoseconds, nanoseconds))


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, _etag(status), status.st_mtime)


def _stat_or_none(path: str) -> os.stat_result | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _read(fd: int, start: int, length: int) -> bytes:
    parts = []
    while length > 0 and (part := os.pread(fd, length, start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sweep(directory: str) -> None:
    """Remove what writers that died long ago left half-written."""
    oldest = time.time() - _ABANDONED_SECONDS
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(entry.path)


def _fsync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
