"""Content of a snapshot as a stream: verified, in bounded memory, with few requests.

Who streams knows in which order the pieces will be wanted. A frame that is fetched brings its neighbours along, as far
as they are wanted next; unpacked frames are kept for a while, since small files share them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterable, Sequence

from supervisor.errors import ObjectNotFound, RepositoryError
from supervisor.snapshot.format import pack_key
from supervisor.snapshot.pack import cut_blob, unpack_frame
from supervisor.snapshot.tree import Blob, Frame
from supervisor.store.protocol import Store

RANGE_BYTES = 4 << 20
"""Bytes asked for at once."""
GAP_BYTES = 128 << 10
"""Unwanted bytes that are fetched rather than asked around."""
UNPACKED_BYTES = 8 << 20
"""Unpacked frames in memory; the newest one stays whatever its size."""


class ContentReader:
    """Reads blobs in a known order.

    Args:
        blobs: all that will be read, in that order.
    """

    def __init__(self, store: Store, blobs: Iterable[Blob]) -> None:
        self._store = store
        self._order = list(dict.fromkeys(blob.frame for blob in blobs))
        self._place = {frame: place for place, frame in enumerate(self._order)}
        self._stored: dict[Frame, memoryview] = {}
        self._unpacked: OrderedDict[Frame, bytes] = OrderedDict()
        self._unpacked_bytes = 0

    async def read(self, blobs: Sequence[Blob]) -> AsyncGenerator[bytes, None]:
        """The content of a file in pieces. Raises `RepositoryError` (also when it is fetched a second time) and store
        errors."""
        for blob in blobs:
            try:
                yield await self._cut(blob)
            except RepositoryError:  # perhaps it was damaged on the way
                self._forget(blob.frame)
                yield await self._cut(blob)

    async def _cut(self, blob: Blob) -> bytes:
        raw = await self._frame(blob.frame)
        return bytes(await asyncio.to_thread(cut_blob, raw, blob))

    async def _frame(self, frame: Frame) -> bytes:
        if frame in self._unpacked:
            self._unpacked.move_to_end(frame)
            return self._unpacked[frame]
        if frame not in self._stored:
            await self._fetch(frame)
        raw = await asyncio.to_thread(unpack_frame, self._stored.pop(frame), frame)
        self._unpacked[frame] = raw
        self._unpacked_bytes += len(raw)
        while self._unpacked_bytes > UNPACKED_BYTES and len(self._unpacked) > 1:
            self._unpacked_bytes -= len(self._unpacked.popitem(last=False)[1])
        return raw

    async def _fetch(self, frame: Frame) -> None:
        """The frame, and those that are wanted after it and lie behind it."""
        wanted = [frame]
        end = frame.offset + frame.stored
        for following in self._order[self._place[frame] + 1 :]:
            last = following.offset + following.stored
            near = following.pack is frame.pack and 0 <= following.offset - end <= GAP_BYTES
            if not near or last - frame.offset > RANGE_BYTES:
                break
            wanted.append(following)
            end = last
        self._stored = {}  # what an earlier range brought and nobody read is let go: one is in memory at a time
        try:
            data = await self._store.get_range(pack_key(frame.pack.id), frame.offset, end)
        except ObjectNotFound as error:
            raise RepositoryError(f"pack {frame.pack.id} is missing from {self._store.url}") from error
        if len(data) != end - frame.offset:
            raise RepositoryError(f"pack {frame.pack.id} is shorter than its manifest says")
        view = memoryview(data)
        self._stored = {one: view[one.offset - frame.offset :][: one.stored] for one in wanted}

    def _forget(self, frame: Frame) -> None:
        self._stored.clear()
        raw = self._unpacked.pop(frame, None)
        if raw is not None:
            self._unpacked_bytes -= len(raw)
