"""A thousand small snapshots leave no thousand packs to restore from."""

from __future__ import annotations

from pathlib import Path

from supervisor.snapshot.compaction import TIER_PACKS, TIERS, scattered
from supervisor.snapshot.tree import Blob, Entry, Frame, Pack, Tree
from tests.support.engine import Life, memory_store, picture
from tests.support.trees import make_odd_tree, write


def tree(*stored: int) -> Tree:
    """A tree with one file in each of so many packs, of these sizes."""
    entries = {}
    for number, size in enumerate(stored):
        frame = Frame(Pack(f"pack{number:04d}", size), 0, size, size)
        entries[f"f{number}"] = Entry(f"f{number}", "f", 0o600, 0, (Blob(bytes([number]) * 16, frame, 0, size),))
    return Tree(entries)


def test_few_packs_and_large_ones_are_left_alone() -> None:
    assert scattered(tree(*[100] * (TIER_PACKS - 1))) == frozenset()
    assert scattered(tree(*[TIERS[-1]] * 100)) == frozenset()


def test_a_full_tier_is_merged_together_with_the_smaller_ones() -> None:
    assert len(scattered(tree(*[100] * TIER_PACKS, TIERS[0]))) == TIER_PACKS
    assert len(scattered(tree(100, *[TIERS[0]] * TIER_PACKS))) == TIER_PACKS + 1


async def test_packs_stay_few_after_many_snapshots_and_every_snapshot_is_restored(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    make_odd_tree(life.root, 50)
    large = bytearray(b"page of a database\n" * 40_000)
    most = 0
    for number in range(120):
        write(life.root / "log", b"line\n" * (number + 1))
        write(life.root / f"note-{number % 30}", f"{number}".encode())
        large[number * 5000 : number * 5000 + 4] = b"%04d" % number
        write(life.root / "large", bytes(large))
        await life.engine.take("change", compact=True)
        most = max(most, len({blob.frame.pack for blob in life.engine._writer.tree.blobs()}))
    assert most <= 3 * (TIER_PACKS + 4)

    again = Life(store, tmp_path / "b")
    back = await again.boot()

    assert back.requests <= most + 2
    assert {k: v for k, v in picture(life.root).items() if k != b"a-fifo"} == picture(again.root)


async def test_what_is_compacted_is_not_uploaded_again_by_the_next_snapshot(tmp_path: Path) -> None:
    life = Life(memory_store(), tmp_path)
    await life.boot()
    for number in range(40):
        write(life.root / f"file-{number}", f"{number}".encode() * 500)
        await life.engine.take("change", compact=True)
    write(life.root / "file-1", b"changed")
    taken = await life.engine.take("change")
    assert taken.record is not None
    assert taken.read_bytes == len(b"changed")


async def test_a_copy_of_compacted_content_refers_to_where_it_is_now(tmp_path: Path) -> None:
    life = Life(memory_store(), tmp_path)
    await life.boot()
    for number in range(40):
        write(life.root / f"file-{number}", f"{number}".encode() * 500)
        await life.engine.take("change", compact=True)
    before = {blob.frame.pack for blob in life.engine._writer.tree.blobs()}
    for number in range(40):
        write(life.root / f"copy-{number}", f"{number}".encode() * 500)
    await life.engine.take("change")
    assert {blob.frame.pack for blob in life.engine._writer.tree.blobs()} == before


async def test_what_a_compaction_without_news_has_stored_is_not_collected_under_the_next_snapshot(
    tmp_path: Path,
) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    for number in range(40):
        write(life.root / f"file-{number}", f"{number}".encode() * 500)
        await life.engine.take("change")
    life.engine._collector._young = 0.0
    assert (await life.engine.take("change", compact=True)).record is None, "the tree is the same"
    await life.engine.collect()  # spares what is younger than HEAD
    await life.engine.collect()
    write(life.root / "news", b"news")
    await life.engine.take("change")
    again = Life(store, tmp_path / "b")
    await again.boot()
    assert picture(life.root) == picture(again.root)
