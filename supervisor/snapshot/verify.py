"""Is what the bucket holds whole? Structure: every manifest decodes and every pack is there with its size. Deep: every
frame unpacks and every piece of content has its hash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from supervisor.concurrency import task_group
from supervisor.errors import ObjectNotFound, RepositoryError
from supervisor.snapshot.format import Head, SnapshotRecord, pack_key
from supervisor.snapshot.pack import cut_blob, unpack_frame
from supervisor.snapshot.repository import Repository
from supervisor.snapshot.tree import Blob, Frame, Pack

CHECKS_IN_FLIGHT = 8
DEEP_IN_FLIGHT = 2


@dataclass(slots=True)
class Report:
    """What was looked at, and what is wrong: snapshot number -> findings."""

    snapshots: int = 0
    packs: int = 0
    blobs: int = 0
    bytes: int = 0
    damaged: dict[int, list[str]] = field(default_factory=dict)

    @property
    def sound(self) -> bool:
        """Nothing was found."""
        return not self.damaged


async def verify(
    repository: Repository,
    head: Head,
    *,
    deep: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Check every retained snapshot. Store errors are raised: a bucket that does not answer says nothing."""
    report = Report()
    packs: dict[str, dict[Frame, set[Blob]]] = {}
    users: dict[str, set[int]] = {}
    sizes: dict[str, Pack] = {}
    for record in head.snapshots:
        report.snapshots += 1
        try:
            loaded = await repository.load(head, record)
        except RepositoryError as error:
            _note(report, record, error.message)
            continue
        for blob in loaded.tree.blobs():
            pack = blob.frame.pack
            sizes[pack.id] = pack
            users.setdefault(pack.id, set()).add(record.sequence)
            packs.setdefault(pack.id, {}).setdefault(blob.frame, set()).add(blob)

    slots = asyncio.Semaphore(DEEP_IN_FLIGHT if deep else CHECKS_IN_FLIGHT)
    done = 0

    async def check(pack_id: str) -> None:
        nonlocal done
        async with slots:
            finding = await (
                _deep(repository, sizes[pack_id], packs[pack_id], report)
                if deep
                else _structure(repository, sizes[pack_id])
            )
        report.packs += 1
        for sequence in sorted(users[pack_id]) if finding else ():
            report.damaged.setdefault(sequence, []).append(str(finding))
        done += 1
        progress(done, len(packs))

    async with task_group() as group:
        for pack_id in packs:
            group.create_task(check(pack_id))
    return report


def _note(report: Report, record: SnapshotRecord, finding: str) -> None:
    report.damaged.setdefault(record.sequence, []).append(finding)


async def _structure(repository: Repository, pack: Pack) -> str | None:
    try:
        info = await repository.store.stat(pack_key(pack.id))
    except ObjectNotFound:
        return f"pack {pack.id} is missing"
    return None if info.size == pack.size else f"pack {pack.id} has {info.size} bytes instead of {pack.size}"


async def _deep(repository: Repository, pack: Pack, frames: dict[Frame, set[Blob]], report: Report) -> str | None:
    try:
        data = (await repository.fetch(pack_key(pack.id), pack.size)).data
    except ObjectNotFound:
        return f"pack {pack.id} is missing"
    except RepositoryError as error:
        return error.message
    if len(data) != pack.size:
        return f"pack {pack.id} has {len(data)} bytes instead of {pack.size}"
    report.bytes += len(data)
    try:
        report.blobs += await asyncio.to_thread(_check_frames, data, frames)
    except RepositoryError as error:
        return error.message
    return None


def _check_frames(data: bytes, frames: dict[Frame, set[Blob]]) -> int:
    view = memoryview(data)
    count = 0
    for frame, blobs in frames.items():
        raw = unpack_frame(view[frame.offset : frame.offset + frame.stored], frame)
        for blob in blobs:
            cut_blob(raw, blob)
            count += 1
    return count
