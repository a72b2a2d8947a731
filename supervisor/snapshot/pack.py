"""Packs: content grouped into zstd frames, frames grouped into objects of about 8 MiB, with a table at the end.

Small files share frames (grouped, text packs a third better than file by file, and a restore needs few requests);
large files are cut at fixed, aligned places, so that a file that grows at its end or changes in pages uploads what
changed.
"""

from __future__ import annotations

import hashlib
import struct
import weakref
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from supervisor.errors import RepositoryError
from supervisor.snapshot import zstd
from supervisor.snapshot.format import FORMAT, HASH_BYTES, MAX_FRAME_BYTES, PACK_MAGIC, PackFooter
from supervisor.snapshot.tree import Blob, Frame, Pack, Tree

FRAME_BYTES = 512 << 10
"""Raw bytes after which a frame is closed: beyond it, text gains almost nothing from a larger window."""
PACK_BYTES = 8 << 20
"""Stored bytes after which a pack is closed; a pack may be longer by one frame."""
CHUNK_BYTES = 128 << 10
"""Where large files are cut: small against a database that changes in pages, large against the 60 bytes that a chunk
costs in the manifest."""
WHOLE_BYTES = 256 << 10
"""Files up to this size are stored in one piece."""


def digest(data: bytes | memoryview) -> bytes:
    """A blob's identity."""
    return hashlib.sha256(data).digest()[:HASH_BYTES]


HOLE = digest(bytes(CHUNK_BYTES))
"""The identity of a chunk of zeros: what a hole of a sparse file is stored as."""


class BlobIndex:
    """Content that the bucket holds already, by hash. It knows a blob for as long as some tree refers to it: what no
    tree refers to may have been collected from the bucket."""

    def __init__(self) -> None:
        self._blobs: weakref.WeakValueDictionary[bytes, Blob] = weakref.WeakValueDictionary()

    def get(self, key: bytes) -> Blob | None:
        return self._blobs.get(key)

    def add(self, blob: Blob) -> None:
        """Later places replace earlier ones: they are the compacted ones."""
        self._blobs[blob.hash] = blob

    def add_all(self, tree: Tree) -> None:
        """What a tree refers to."""
        for blob in tree.blobs():
            if self._blobs.get(blob.hash) is not blob:
                self._blobs[blob.hash] = blob

    def packs(self) -> set[str]:
        """Ids of all packs that a later snapshot might refer to."""
        return {blob.frame.pack.id for blob in self._blobs.values()}

    def __len__(self) -> int:
        return len(self._blobs)


class PackBuilder:
    """Turns contents into blobs, frames and packs; `emit(pack, data)` is called with each finished pack.

    The blobs that `add` returns point into the pack before it is stored: they count only when all packs that were
    emitted are in the bucket.

    Args:
        stale: packs whose content is stored anew where it is added again.
    """

    def __init__(
        self,
        index: BlobIndex,
        new_id: Callable[[], str],
        emit: Callable[[Pack, bytes], None],
        *,
        stale: AbstractSet[Pack] = frozenset(),
    ) -> None:
        self._index = index
        self._stale = stale
        self._new_id = new_id
        self._emit = emit
        self._fresh: dict[bytes, Slot] = {}
        self._raw = bytearray()
        self._slots: list[Slot] = []
        self._data = bytearray()
        self._frames: list[tuple[int, int, int, list[Slot]]] = []
        self.raw_bytes = 0
        self.stored_bytes = 0

    def is_stale(self, blob: Blob) -> bool:
        """Is this content to be stored anew?"""
        return blob.frame.pack in self._stale

    def add(self, data: bytes | memoryview) -> Blob | Slot:
        """Content as a blob that the bucket has, or as a place that `resolve` turns into one after `finish`."""
        key = digest(data)
        known = self._index.get(key)
        if known is not None and known.frame.pack not in self._stale:
            return known
        if (fresh := self._fresh.get(key)) is not None:
            return fresh
        if self._raw and len(self._raw) + len(data) > FRAME_BYTES:
            self._close_frame()
        slot = Slot(key, len(self._raw), len(data))
        self._raw += data
        self._slots.append(slot)
        self._fresh[key] = slot
        self.raw_bytes += len(data)
        if len(self._raw) >= FRAME_BYTES:
            self._close_frame()
        return slot

    def finish(self) -> None:
        """Close what is open; afterwards every place can be resolved."""
        self._close_frame()
        self._close_pack()

    def _close_frame(self) -> None:
        if not self._raw:
            return
        stored = zstd.compress(self._raw)
        self._frames.append((len(self._data), len(stored), len(self._raw), self._slots))
        self._data += stored
        self._raw = bytearray()
        self._slots = []
        if len(self._data) >= PACK_BYTES:
            self._close_pack()

    def _close_pack(self) -> None:
        if not self._frames:
            return
        footer = zstd.compress(
            msgspec.json.encode(
                PackFooter(
                    format=FORMAT,
                    frames=[
                        (offset, stored, raw, [(slot.hash.hex(), slot.offset, slot.length) for slot in slots])
                        for offset, stored, raw, slots in self._frames
                    ],
                )
            )
        )
        data = bytes(self._data) + footer + struct.pack("<I", len(footer)) + PACK_MAGIC
        pack = Pack(self._new_id(), len(data))
        for offset, stored, raw, slots in self._frames:
            frame = Frame(pack, offset, stored, raw)
            for slot in slots:
                slot.blob = Blob(slot.hash, frame, slot.offset, slot.length)
        self._data = bytearray()
        self._frames = []
        self.stored_bytes += len(data)
        self._emit(pack, data)


class Slot:
    """A place for content in a pack that is still being built."""

    __slots__ = ("blob", "hash", "length", "offset")

    def __init__(self, key: bytes, offset: int, length: int) -> None:
        self.hash = key
        self.offset = offset
        self.length = length
        self.blob: Blob | None = None


def resolve(place: Blob | Slot) -> Blob:
    """The blob of a place; only after `PackBuilder.finish`."""
    if isinstance(place, Blob):
        return place
    if place.blob is None:
        raise RuntimeError("a place was resolved before its pack was closed")
    return place.blob


def unpack_frame(stored: bytes | memoryview, frame: Frame) -> bytes:
    """A frame's raw bytes. Raises `RepositoryError`."""
    what = f"frame {frame.offset}+{frame.stored} of pack {frame.pack.id}"
    raw = zstd.decompress(stored, min(frame.raw, MAX_FRAME_BYTES), what=what)
    if len(raw) != frame.raw:
        raise RepositoryError(f"{what} unpacks to {len(raw)} bytes instead of {frame.raw}")
    return raw


def cut_blob(raw: bytes, blob: Blob) -> memoryview:
    """A blob's content out of its frame's raw bytes, verified. Raises `RepositoryError`."""
    content = memoryview(raw)[blob.offset : blob.offset + blob.length]
    if digest(content) != blob.hash:
        raise RepositoryError(
            f"content {blob.hash.hex()} in pack {blob.frame.pack.id} is damaged: its hash does not match"
        )
    return content


def read_footer(data: bytes, pack_id: str) -> PackFooter:
    """The table of a whole pack's bytes, for tools that have no manifest. Raises `RepositoryError`."""
    tail = 4 + len(PACK_MAGIC)
    if len(data) < tail or data[-len(PACK_MAGIC) :] != PACK_MAGIC:
        raise RepositoryError(f"pack {pack_id} has no table at its end")
    (length,) = struct.unpack("<I", data[-tail : -len(PACK_MAGIC)])
    if length > len(data) - tail:
        raise RepositoryError(f"the table of pack {pack_id} is longer than the pack")
    table: Any = zstd.decompress(data[-tail - length : -tail], MAX_FRAME_BYTES, what=f"the table of pack {pack_id}")
    try:
        return msgspec.json.decode(table, type=PackFooter)
    except msgspec.MsgspecError as error:
        raise RepositoryError(f"the table of pack {pack_id} is damaged: {error}") from error
