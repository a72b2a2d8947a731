"""Bringing a snapshot's tree back: what is there already stays, the rest is fetched, verified, and renamed into place.

Requests are few and parallel (ranges of packs), work on the disk happens in one thread, and nothing is ever written
outside of the root, whatever the manifest says and whatever links lie in the old tree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from supervisor.concurrency import task_group
from supervisor.errors import ExitCode, MoltinitError, ObjectNotFound, RepositoryError
from supervisor.init.cell.rights import Rights
from supervisor.snapshot.capture import Known
from supervisor.snapshot.format import pack_key
from supervisor.snapshot.pack import cut_blob, unpack_frame
from supervisor.snapshot.place import Placer
from supervisor.snapshot.rules import Classes, SkipRules
from supervisor.snapshot.tree import Frame, Pack, Tree
from supervisor.store.protocol import Store

RANGE_BYTES = 4 << 20
"""Bytes asked for at once."""
GAP_BYTES = 128 << 10
"""Unwanted bytes that are fetched rather than asked around: at 100 MB/s they take 1.3 ms, a request 30."""
UNPACKING = 2
"""Threads: one unpacks and verifies while the other writes; only one writes at a time."""
RANGES_IN_FLIGHT = 6
"""Ranges fetched at the same time; with their frames unpacked they take about 40 MiB of memory."""


class RestoreFailed(MoltinitError):
    """The tree could not be written (disk full, no rights); another snapshot would not help."""

    code = "restore-failed"
    exit_code = ExitCode.RESTORE_FAILED


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did; `known` lets the next capture begin without reading the tree again."""

    known: Mapping[str, Known]
    files: int
    written: int
    fetched_bytes: int
    requests: int


@dataclass(slots=True)
class _Range:
    pack: Pack
    start: int
    end: int
    frames: list[Frame] = field(default_factory=list)


class Restorer:
    """Restores into one root.

    Args:
        root: the directory that becomes the tree; made where it is missing.
        rules: names that these skip are left alone.
        rights: whose rights are used on the tree, and whose its files are.
    """

    def __init__(
        self,
        store: Store,
        root: Path,
        *,
        rules: SkipRules,
        classes: Classes,
        rights: Rights | None = None,
    ) -> None:
        self._store = store
        self._root = root
        self._rules = rules
        self._classes = classes
        self._rights = rights or Rights()

    async def restore(
        self,
        tree: Tree,
        *,
        known: Mapping[str, Known] | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Restored:
        """Make the root equal to `tree`.

        Args:
            known: what the last capture of this root learnt; names that still look the same are not fetched again.
            progress: called with (bytes restored, bytes to restore).

        Raises `RepositoryError` (damaged content), store errors, `RestoreFailed`. After an error the root is neither
        the old tree nor the new one; only a restore that succeeds makes it whole.
        """
        thread = ThreadPoolExecutor(UNPACKING, thread_name_prefix="restore", initializer=self._rights.take)
        loop = asyncio.get_running_loop()
        placer = Placer(self._root, tree, rules=self._rules)
        try:
            missing = await loop.run_in_executor(thread, placer.prepare, known or {})
            ranges = await loop.run_in_executor(thread, lambda: _plan(placer.wanted(self._classes.of)))
            recalled = loop.run_in_executor(thread, placer.recall_rules)
            fetched = await self._fetch(ranges, placer, thread, sum(e.size for e in missing), progress)
            await recalled
            restored = await loop.run_in_executor(thread, placer.finish)
            return Restored(restored, tree.files, len(missing), fetched, len(ranges))
        except OSError as error:
            raise RestoreFailed(
                f"the tree cannot be written to {self._root}: {error.strerror} ({error.filename or 'no name'})",
                hint="free disk space, or give MOLTINIT_AGENT_HOME a place that can be written",
            ) from error
        finally:
            thread.shutdown(wait=True, cancel_futures=True)
            placer.close()

    async def _fetch(
        self,
        ranges: list[_Range],
        placer: Placer,
        thread: ThreadPoolExecutor,
        total: int,
        progress: Callable[[int, int], None],
    ) -> int:
        loop = asyncio.get_running_loop()
        slots = asyncio.Semaphore(RANGES_IN_FLIGHT)
        fetched = 0

        async def one(part: _Range) -> None:
            nonlocal fetched
            async with slots:
                data = await self._get(part)
                fetched += len(data)
                try:
                    await loop.run_in_executor(thread, _place, part, data, placer)
                except RepositoryError:  # perhaps it was damaged on the way
                    data = await self._get(part)
                    fetched += len(data)
                    await loop.run_in_executor(thread, _place, part, data, placer)
                progress(placer.placed_bytes, total)

        async with task_group() as group:
            for part in ranges:
                group.create_task(one(part))
        return fetched

    async def _get(self, part: _Range) -> bytes:
        for _ in range(2):  # a short answer may be the network's, too
            try:
                data = await self._store.get_range(pack_key(part.pack.id), part.start, part.end)
            except ObjectNotFound as error:
                raise RepositoryError(f"pack {part.pack.id} is missing from {self._store.url}") from error
            if len(data) == part.end - part.start:
                return data
        raise RepositoryError(f"pack {part.pack.id} is shorter than its manifest says")


def _place(part: _Range, data: bytes, placer: Placer) -> None:
    view = memoryview(data)
    for frame in part.frames:
        start = frame.offset - part.start
        raw = unpack_frame(view[start : start + frame.stored], frame)
        contents = {blob: cut_blob(raw, blob) for blob in placer.wanted_blobs(frame)}
        with placer.writing:
            placer.place(frame, contents)


def _plan(wanted: Mapping[Frame, int]) -> list[_Range]:
    """The ranges to fetch, those of the first class first."""
    by_pack: dict[Pack, list[Frame]] = {}
    for frame in wanted:
        by_pack.setdefault(frame.pack, []).append(frame)
    ranges: list[_Range] = []
    for pack, frames in by_pack.items():
        frames.sort(key=lambda frame: frame.offset)
        for before, after in pairwise(frames):
            if before.offset + before.stored > after.offset:
                raise RepositoryError(f"frames of pack {pack.id} overlap at {after.offset}")
        ranges.extend(_ranges(pack, frames))
    ranges.sort(key=lambda part: min(wanted[frame] for frame in part.frames))
    return ranges


def _ranges(pack: Pack, frames: list[Frame]) -> list[_Range]:
    ranges: list[_Range] = []
    for frame in frames:
        end = frame.offset + frame.stored
        last = ranges[-1] if ranges else None
        if last and frame.offset - last.end <= GAP_BYTES and end - last.start <= RANGE_BYTES:
            last.end = end
            last.frames.append(frame)
        else:
            ranges.append(_Range(pack, frame.offset, end, [frame]))
    return ranges
