"""A bucket in a local directory: objects are files, and a write is there whole or not at all."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import TypeVar

from supervisor.errors import BucketNotFound, PreconditionFailed, StoreError, StoreRefused, StoreUnavailable
from supervisor.store.directory import BucketDirectory
from supervisor.store.keys import check_prefix, check_range
from supervisor.store.protocol import ObjectInfo, StoredObject

_T = TypeVar("_T")


class FileStore:
    """Objects below a directory, shared by any number of processes of one machine.

    The directory is made on first use. From then on it has to be the same directory: one that has
    vanished, or was replaced (an unmounted disk leaves an empty one behind), is `BucketNotFound` and
    never an empty bucket. Unlike in S3, no key can be both an object and the directory of another
    ("a" beside "a/b"): such a write is a plain `StoreError`.

    Args:
        root: the directory.
        lock_seconds: how long a write waits for another process's write; then it is `StoreUnavailable`.
    """

    def __init__(self, root: Path, *, lock_seconds: float = 10.0) -> None:
        self._root = str(root.absolute())
        self._directory = BucketDirectory(self._root, lock_seconds)

    def __repr__(self) -> str:
        return f"FileStore({self.url!r})"

    @property
    def url(self) -> str:
        return f"file://{self._root}"

    async def get(self, key: str, *, limit: int | None = None) -> StoredObject:
        return await self._in_thread(f"read {key!r}", lambda: self._directory.get(key, limit))

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        check_range(key, start, end)
        return await self._in_thread(f"read {key!r}", lambda: self._directory.get_range(key, start, end))

    async def stat(self, key: str) -> ObjectInfo:
        return await self._in_thread(f"stat {key!r}", lambda: self._directory.stat(key))

    async def put(self, key: str, data: bytes) -> str:
        return await self._write(key, data, lambda _: None)

    async def put_if_absent(self, key: str, data: bytes) -> str:
        def must_be_absent(current: str | None) -> None:
            if current is not None:
                raise PreconditionFailed(f"object {key!r} exists already in {self.url}")

        return await self._write(key, data, must_be_absent)

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        def must_be_the_version(current: str | None) -> None:
            if current != etag:
                raise PreconditionFailed(f"object {key!r} in {self.url} is not the expected version")

        return await self._write(key, data, must_be_the_version)

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        check_prefix(prefix)
        for info in await self._in_thread(f"list {prefix!r}", lambda: self._directory.list(prefix)):
            yield info

    async def delete(self, keys: Iterable[str]) -> None:
        doomed = tuple(keys)
        await self._in_thread(f"delete {len(doomed)} objects", lambda: self._directory.delete(doomed))

    async def close(self) -> None:
        self._directory.close()

    async def _write(self, key: str, data: bytes, check: Callable[[str | None], None]) -> str:
        return await self._in_thread(f"write {key!r}", lambda: self._directory.write(key, data, check))

    async def _in_thread(self, what: str, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise self._translated(what, error) from error

    def _translated(self, what: str, error: OSError) -> StoreError:
        message = f"cannot {what} in {self.url}: {error.strerror or error}"
        match error.errno:
            case errno.EACCES | errno.EPERM | errno.EROFS:
                return StoreRefused(message, hint=f"Let this user read and write {self._root}.")
            case errno.ENOSPC | errno.EDQUOT:
                full = f"cannot {what} in {self.url}: the disk is full"
                return StoreUnavailable(full, hint="Make room on that disk.")
            case errno.ENOENT if not os.path.isdir(self._root):
                return BucketNotFound(f"the bucket directory {self._root} has vanished")
            case errno.ENOTDIR | errno.EEXIST if not os.path.isdir(self._root):
                return StoreRefused(f"{self._root} is not a directory", hint="Name another bucket directory.")
            case errno.ENOTDIR | errno.EISDIR | errno.EEXIST | errno.ENAMETOOLONG:
                return StoreError(message, hint="A local bucket cannot hold both an object and keys below it.")
        return StoreUnavailable(message)
