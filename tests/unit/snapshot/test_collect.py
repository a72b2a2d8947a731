"""Garbage collection: what is referred to stays, what is not goes, and nobody but the live writer deletes."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.errors import Fenced, RepositoryError
from supervisor.snapshot import format as fmt
from supervisor.snapshot.retention import Retention
from supervisor.snapshot.verify import verify
from supervisor.store.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.engine import Life, picture
from tests.support.trees import write

DAY = 24 * 3600.0
SPARSE = Retention(last=2, hourly=0, daily=0, weekly=0)


async def keys(store: MemoryStore, prefix: str = "") -> set[str]:
    return {info.key async for info in store.list(prefix)}


async def lived(tmp_path: Path, clock: FakeClock, store: MemoryStore, snapshots: int = 6) -> Life:
    """A life with so many snapshots, of which retention keeps two."""
    life = Life(store, tmp_path / "a", clock=clock, retention=SPARSE)
    await life.boot()
    for number in range(snapshots):
        write(life.root / "same", b"always there")
        write(life.root / "file", f"{number}".encode() * 1000)
        await life.engine.take("change")
        await clock.advance(60)
    return life


async def test_only_what_nothing_refers_to_is_deleted(tmp_path: Path) -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    life = await lived(tmp_path, clock, store)
    before = await keys(store, fmt.PACK_PREFIX)
    await clock.advance(DAY)
    await life.engine.annotate(6, note="a write of HEAD tells the time")

    collected = await life.engine.collect()

    after = await keys(store, fmt.PACK_PREFIX)
    assert collected.packs == len(before) - len(after) > 0
    assert collected.manifests > 0
    report = await verify(life.engine._repository, life.engine._held.head, deep=True)
    assert report.sound
    again = Life(store, tmp_path / "b", clock=clock)
    await again.boot()
    assert picture(again.root) == picture(life.root)


async def test_what_is_young_stays(tmp_path: Path) -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    life = await lived(tmp_path, clock, store)
    before = await keys(store)
    collected = await life.engine.collect()
    assert collected.packs == collected.manifests == 0
    assert collected.young > 0
    assert await keys(store) == before


async def test_a_rehearsal_deletes_nothing_and_says_the_same(tmp_path: Path) -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    life = await lived(tmp_path, clock, store)
    await clock.advance(DAY)
    await life.engine.annotate(6, note="now")
    before = await keys(store)
    told = await life.engine.collect(rehearse=True)
    assert await keys(store) == before
    assert await life.engine.collect() == told
    assert await keys(store) != before


async def test_a_superseded_writer_deletes_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    life = await lived(tmp_path, clock, store)
    await clock.advance(DAY)
    other = Life(store, tmp_path / "b", clock=clock)
    await other.boot()
    before = await keys(store)
    with pytest.raises(Fenced):
        await life.engine.collect()
    assert await keys(store) == before


async def test_a_rescued_state_keeps_what_it_refers_to(tmp_path: Path) -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    first = await lived(tmp_path, clock, store, snapshots=1)
    second = Life(store, tmp_path / "b", clock=clock, retention=SPARSE)
    await second.boot()
    write(first.root / "file", b"never committed")
    key = await first.engine.rescue()
    for number in range(4):
        write(second.root / "same", b"not any more")
        write(second.root / "file", f"{number} later".encode() * 1000)
        await second.engine.take("change")
        await clock.advance(DAY)

    await second.engine.collect()

    await second.engine.restore(key)
    assert (second.root / "file").read_bytes() == b"never committed"
    assert (second.root / "same").read_bytes() == b"always there"


async def test_a_rescue_whose_packs_were_collected_meanwhile_is_stored_anew(tmp_path: Path) -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    first = await lived(tmp_path, clock, store, snapshots=1)
    second = Life(store, tmp_path / "b", clock=clock, retention=SPARSE)
    await second.boot()
    for number in range(4):
        write(second.root / "same", b"not any more")
        write(second.root / "file", f"{number} later".encode() * 1000)
        await second.engine.take("change")
        await clock.advance(DAY)
    assert (await second.engine.collect()).packs > 0

    key = await first.engine.rescue()

    await second.engine.restore(key)
    assert (second.root / "same").read_bytes() == b"always there"
    assert await keys(store, fmt.RESCUE_PREFIX) == {key}


async def test_nothing_is_deleted_while_a_retained_manifest_cannot_be_read(tmp_path: Path) -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    life = await lived(tmp_path, clock, store)
    await clock.advance(DAY)
    head = await life.engine.annotate(6, note="now")
    other = next(r for r in life.engine._held.head.snapshots if r.sequence != head.sequence)
    await store.delete([other.manifest])
    before = await keys(store)
    with pytest.raises(RepositoryError, match="nothing is collected"):
        await life.engine.collect()
    assert await keys(store) == before
    await life.engine.forget(other.sequence)
    assert (await life.engine.collect()).packs > 0


async def test_it_is_due_once_a_day_whichever_lives_the_day_has(tmp_path: Path) -> None:
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    life = await lived(tmp_path, clock, store)
    assert life.engine.collection_is_due()
    await life.engine.collect()
    assert not life.engine.collection_is_due()
    again = Life(store, tmp_path / "b", clock=clock)
    await again.boot()
    assert not again.engine.collection_is_due()
    await clock.advance(DAY + 1)
    assert again.engine.collection_is_due()
