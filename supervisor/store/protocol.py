"""The bucket as the engine sees it: seven operations, the same meaning on every backend.

Keys are relative to the repository's prefix, use `/`, and are ASCII. Objects are small (a pack is at most a few tens
of MiB), so that every write is one request and a conditional write is atomic. Consistency: a read after a write sees
it (R2, S3, Ceph and a local disk all give that).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object: its key, its size in bytes, the ETag (opaque) and when it was written (seconds since 1970)."""

    key: str
    size: int
    etag: str
    modified: float


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's bytes together with the ETag that they were read under."""

    data: bytes
    etag: str


class Store(Protocol):
    """An object store below one prefix.

    Every method raises `StoreUnavailable` (no answer, or "later"), `StoreRefused` (401, 403) and `BucketNotFound`;
    what it raises beyond that is said at the method.
    """

    @property
    def url(self) -> str:
        """The place as an operator would write it, without credentials."""
        ...

    async def get(self, key: str, *, limit: int | None = None) -> StoredObject:
        """The whole object, of at most `limit` bytes. Raises `ObjectNotFound` and `ObjectTooLarge`."""
        ...

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` (exclusive), in one request. Raises `ObjectNotFound`; a shorter object yields fewer
        bytes (none at all where `start` lies behind its end)."""
        ...

    async def stat(self, key: str) -> ObjectInfo:
        """Size and ETag without the bytes. Raises `ObjectNotFound`."""
        ...

    async def put(self, key: str, data: bytes) -> str:
        """Write, whatever was there; returns the new ETag."""
        ...

    async def put_if_absent(self, key: str, data: bytes) -> str:
        """Write unless the key exists; returns the ETag. Raises `PreconditionFailed`."""
        ...

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        """Compare-and-swap: write only over the version with this ETag; returns the new one.
        Raises `PreconditionFailed` (also where the object is gone)."""
        ...

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """All objects whose key starts with `prefix`, in key order."""
        ...

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete; a key that does not exist is no error."""
        ...

    async def close(self) -> None:
        """Give back connections and files; the store is not used afterwards."""
        ...
