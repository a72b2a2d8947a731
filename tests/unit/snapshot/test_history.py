"""Pins, notes, comparisons, undo, parts of snapshots, and what rescued states are good for."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.errors import UsageError
from supervisor.snapshot.compare import Change
from supervisor.snapshot.retention import Retention
from tests.support.engine import Life, memory_store
from tests.support.trees import write


@pytest.fixture
async def life(tmp_path: Path) -> Life:
    """Three snapshots of a file, and of a folder beside it."""
    life = Life(memory_store(), tmp_path, retention=Retention(last=3, hourly=0, daily=0, weekly=0))
    await life.boot()
    for number in (1, 2, 3):
        write(life.root / "file", b"x" * number)
        write(life.root / f"folder/{number}", b"inside")
        await life.engine.take("change")
    return life


async def test_a_pin_outlives_retention_and_an_unpinned_snapshot_does_not(life: Life) -> None:
    await life.engine.annotate(1, pin="kept", note="because")
    for number in range(4, 8):
        write(life.root / "file", b"x" * number)
        await life.engine.take("change")
    records = life.engine._held.head.snapshots
    assert [r.sequence for r in records] == [1, 5, 6, 7]
    assert (records[0].pin, records[0].note) == ("kept", "because")
    await life.engine.annotate(1, pin="")
    write(life.root / "file", b"")
    await life.engine.take("change")
    assert [r.sequence for r in life.engine._held.head.snapshots] == [6, 7, 8]


async def test_a_comparison_names_what_came_went_and_changed(life: Life) -> None:
    (life.root / "folder/1").unlink()
    await life.engine.take("change")
    assert await life.engine.compare(2) == [
        Change("file", "changed", 2, 3),
        Change("folder/1", "removed", 6, None),
        Change("folder/3", "added", None, 6),
    ]
    assert await life.engine.compare(2, 2) == []
    with pytest.raises(UsageError, match="no snapshot 99"):
        await life.engine.compare(99)


async def test_a_restore_is_undone_and_the_undo_too(life: Life) -> None:
    await life.engine.annotate(1, pin="kept")
    with pytest.raises(UsageError, match="no restore to undo"):
        life.engine.before_last_restore()
    await life.engine.restore(1)
    assert (life.root / "file").read_bytes() == b"x"
    await life.engine.restore(life.engine.before_last_restore().sequence)
    assert (life.root / "file").read_bytes() == b"xxx"
    await life.engine.restore(life.engine.before_last_restore().sequence)
    assert (life.root / "file").read_bytes() == b"x"


async def test_one_file_comes_back_and_the_rest_stays(life: Life) -> None:
    await life.engine.annotate(1, pin="kept")
    await life.engine.restore(1, path="file")
    assert (life.root / "file").read_bytes() == b"x"
    assert sorted(p.name for p in (life.root / "folder").iterdir()) == ["1", "2", "3"]
    taken = await life.engine.take("change")
    assert taken.record is None


async def test_a_folder_comes_back_as_it_was(life: Life) -> None:
    await life.engine.annotate(1, pin="kept")
    await life.engine.restore(1, path="folder")
    assert (life.root / "file").read_bytes() == b"xxx"
    assert sorted(p.name for p in (life.root / "folder").iterdir()) == ["1"]


async def test_a_file_in_a_folder_that_is_gone_comes_back_with_its_folder(life: Life) -> None:
    for inside in (life.root / "folder").iterdir():
        inside.unlink()
    (life.root / "folder").rmdir()
    write(life.root / "folder", b"a file now")
    await life.engine.take("change")
    await life.engine.restore(3, path="folder/2")
    assert [p.name for p in (life.root / "folder").iterdir()] == ["2"]


async def test_a_path_that_the_snapshot_does_not_have_is_refused_before_anything_happens(life: Life) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        await life.engine.restore(2, path="nowhere")
    assert life.engine._held.head.sequence == 3


async def test_one_name_of_a_hard_link_comes_back_as_a_file_of_its_own(tmp_path: Path) -> None:
    life = Life(memory_store(), tmp_path)
    await life.boot()
    write(life.root / "a", b"shared")
    (life.root / "b").hardlink_to(life.root / "a")
    await life.engine.take("change")
    (life.root / "a").unlink()
    (life.root / "b").unlink()
    write(life.root / "c", b"else")
    await life.engine.take("change")
    await life.engine.restore(1, path="b")
    assert (life.root / "b").read_bytes() == b"shared"
    assert not (life.root / "a").exists()


async def test_the_newest_snapshot_cannot_be_forgotten_and_others_can(life: Life) -> None:
    with pytest.raises(UsageError, match="the newest"):
        await life.engine.forget(3)
    await life.engine.forget(2)
    assert [r.sequence for r in life.engine._held.head.snapshots] == [1, 3]


async def test_a_rescued_state_is_listed_and_restored(life: Life, tmp_path: Path) -> None:
    other = Life(life.engine._store, tmp_path / "other")
    await other.boot()
    write(life.root / "file", b"the last words")
    key = await life.engine.rescue()
    assert [rescued.key for rescued in await other.engine.rescues()] == [key]
    record = await other.engine.restore(key)
    assert (other.root / "file").read_bytes() == b"the last words"
    assert record.note == f"restored from {key}"
    with pytest.raises(UsageError, match="no rescued state"):
        await other.engine.restore("rescue/nothing")
    with pytest.raises(UsageError, match="is no rescued state"):
        await other.engine.restore("rescue/../HEAD")
