"""A bucket in a local directory: objects are files, and a write is there whole or not at all.

Below the root, `.moltinit/` holds the lock and the files still being written; everything else is objects. Unlike in
S3, no key can be both an object and the directory of another ("a" beside "a/b").
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from supervisor.errors import (
    BucketNotFound,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from supervisor.store.keys import check_key, check_prefix, check_range, key_problem
from supervisor.store.protocol import ObjectInfo, StoredObject

_PRIVATE = ".moltinit"
_ABANDONED_SECONDS = 24 * 3600.0
_LONGEST_PAUSE_SECONDS = 0.02
T = TypeVar("T")
_ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FileStore:
    """Objects below a directory, shared by any number of processes of one machine.

    The directory is made on first use. From then on it has to be the same directory: one that has vanished, or was
    replaced (an unmounted disk leaves an empty one behind), is `BucketNotFound` and never an empty bucket.

    Args:
        root: the directory.
        lock_seconds: how long a write waits for another process's write before it is `StoreUnavailable`.
    """

    def __init__(self, root: Path, *, lock_seconds: float = 10.0) -> None:
        self._root = str(root.absolute())
        self._lock_seconds = lock_seconds
        self._identity: tuple[int, int] | None = None
        self._opening = threading.Lock()
        self._swept = False

    def __repr__(self) -> str:
        return f"FileStore({self.url!r})"

    @property
    def url(self) -> str:
        return f"file://{self._root}"

    async def get(self, key: str) -> StoredObject:
        return await self._in_thread(f"read {key!r}", lambda: self._get(self._path(key), key))

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        check_range(key, start, end)
        return await self._in_thread(
            f"read {key!r}", lambda: self._get_range(self._path(key), key, start, end)
        )

    async def stat(self, key: str) -> ObjectInfo:
        return await self._in_thread(f"stat {key!r}", lambda: self._stat(self._path(key), key))

    async def put(self, key: str, data: bytes) -> str:
        return await self._write(key, data, lambda _: None)

    async def put_if_absent(self, key: str, data: bytes) -> str:
        def must_be_absent(current: os.stat_result | None) -> None:
            if current is not None:
                raise PreconditionFailed(f"object {key!r} exists already in {self.url}")

        return await self._write(key, data, must_be_absent)

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        def must_be_the_version(current: os.stat_result | None) -> None:
            if current is None or _etag(current) != etag:
                raise PreconditionFailed(
                    f"object {key!r} in {self.url} is not the version it was expected to be"
                )

        return await self._write(key, data, must_be_the_version)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        check_prefix(prefix)
        for info in await self._in_thread(f"list {prefix!r}", lambda: self._list(prefix)):
            yield info

    async def delete(self, keys: Iterable[str]) -> None:
        paths = [self._path(key) for key in keys]
        await self._in_thread(f"delete {len(paths)} objects", lambda: self._delete(paths))

    async def close(self) -> None:
        """Nothing to give back: files are open only within an operation."""

    async def _in_thread(self, what: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise self._translated(what, error) from error

    def _path(self, key: str) -> str:
        if check_key(key).split("/", 1)[0] == _PRIVATE:
            raise StoreError(f"object key {key!r} cannot be used: {_PRIVATE}/ is the store's own")
        return f"{self._root}/{key}"

    # Below here everything runs in a worker thread.

    def _require_bucket(self) -> None:
        with self._opening:
            if self._identity is None:
                os.makedirs(self._root, mode=0o700, exist_ok=True)
                self._identity = _identity(os.stat(self._root))
        try:
            same = _identity(os.stat(self._root)) == self._identity
        except _ABSENT:
            same = False
        if not same:
            raise BucketNotFound(
                f"the bucket directory {self._root} has vanished or was replaced",
                hint="If it is a mounted disk, mount it again.",
            )

    def _get(self, path: str, key: str) -> StoredObject:
        with self._opened(path, key) as (fd, status):
            data = _read(fd, 0, status.st_size)
        if len(data) != status.st_size:
            raise StoreUnavailable(f"object {key!r} in {self.url} changed while it was read")
        return StoredObject(data, _etag(status))

    def _get_range(self, path: str, key: str, start: int, end: int) -> bytes:
        with self._opened(path, key) as (fd, _):
            return _read(fd, start, end - start)

    def _stat(self, path: str, key: str) -> ObjectInfo:
        with self._opened(path, key) as (_, status):
            return _info(key, status)

    @contextmanager
    def _opened(self, path: str, key: str) -> Iterator[tuple[int, os.stat_result]]:
        self._require_bucket()
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except _ABSENT as error:
            self._require_bucket()
            raise ObjectNotFound(f"there is no object {key!r} in {self.url}") from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise ObjectNotFound(f"there is no object {key!r} in {self.url}")
            yield fd, status
        finally:
            os.close(fd)

    async def _write(self, key: str, data: bytes, check: Callable[[os.stat_result | None], None]) -> str:
        """Write if `check` accepts what is there now; it raises if not."""
        path = self._path(key)

        def write() -> str:
            self._require_bucket()
            temporary, written = self._write_temporary(data)
            try:
                with self._exclusive():
                    current = _stat_or_none(path)
                    check(current)
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

        return await self._in_thread(f"write {key!r}", write)

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
        """Hold the bucket's lock. It is asked for again and again rather than waited for, because a stopped process
        that holds it must not hang this thread for ever."""
        fd = os.open(f"{self._private()}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline, pause = time.monotonic() + self._lock_seconds, 0.0005
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        raise StoreUnavailable(
                            f"another process has held the lock of {self.url} for {self._lock_seconds:g} s",
                            hint="Look for a stopped or hanging moltinit.",
                        ) from error
                    time.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            yield
        finally:
            os.close(fd)

    def _private(self) -> str:
        directory = f"{self._root}/{_PRIVATE}"
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        return directory

    def _make_directories(self, key: str) -> list[str]:
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

    def _list(self, prefix: str) -> list[ObjectInfo]:
        self._require_bucket()
        found: list[ObjectInfo] = []
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

    def _delete(self, paths: list[str]) -> None:
        self._require_bucket()
        if not any(map(os.path.lexists, paths)):
            return
        with self._exclusive():
            for path in paths:
                with suppress(*_ABSENT):
                    os.unlink(path)

    def _translated(self, what: str, error: OSError) -> StoreError:
        message = f"cannot {what} in {self.url}: {error.strerror or error}"
        match error.errno:
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return StoreRefused(message, hint=f"Give this user access to {self._root}.")
            case errno.ENOSPC | errno.EDQUOT:
                return StoreUnavailable(
                    f"cannot {what} in {self.url}: the disk is full", hint="Make room on this disk."
                )
            case errno.ENOENT if not os.path.isdir(self._root):
                return BucketNotFound(f"the bucket directory {self._root} has vanished")
            case errno.ENOTDIR | errno.EEXIST if not os.path.isdir(self._root):
                return StoreRefused(
                    f"{self._root} is not a directory", hint="Name a directory as the bucket."
                )
            case errno.ENOTDIR | errno.EISDIR | errno.ENOTEMPTY | errno.ENAMETOOLONG:
                return StoreError(
                    message, hint="A local bucket cannot hold both an object and keys below it."
                )
        return StoreUnavailable(message)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _etag(status: os.stat_result) -> str:
    """Sound, because an object's file is never changed, only replaced under the lock by one with a later time (in
    the file's own nanoseconds, see `_dated_after`). The inode tells versions apart where a file system keeps coarse
    times, and where a deleted key comes back after the clock was set back."""
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"


def _dated_after(current: os.stat_result | None, path: str, written: os.stat_result) -> os.stat_result:
    """Make sure that a file about to replace `current` is dated later, whatever the clock did meanwhile."""
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
    while length and (part := os.pread(fd, length, start)):
        parts.append(part)
        start, length = start + len(part), length - len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


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
