"""The engine end to end on a memory store: what was saved comes back, and nothing else happens."""

from __future__ import annotations

import asyncio
import os
import shutil
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import Fenced, RepositoryError, UsageError
from supervisor.snapshot import capture
from supervisor.snapshot.capture import SETTLE_NS
from supervisor.snapshot.sqlite import integrity
from supervisor.snapshot.sqlite_client import DatabaseCopies
from tests.support.agents import until
from tests.support.engine import Life, memory_store, picture, restore_newest
from tests.support.trees import ConstantWriter, add_rows, count_rows, make_database, make_odd_tree, write


@pytest.mark.parametrize("files", [200, 10_000])
async def test_a_tree_of_odd_names_comes_back_identical(tmp_path: Path, files: int) -> None:
    store = memory_store()
    first = Life(store, tmp_path / "a")
    assert (await first.boot()).origin == "fresh"
    make_odd_tree(first.root, files)
    taken = await first.engine.take("change")
    assert taken.record is not None
    assert taken.skipped == {"fifo": 1}
    os.unlink(first.root / "a-fifo")

    second = Life(store, tmp_path / "b")
    back = await second.boot()

    assert back.origin == "restored"
    assert picture(second.root) == picture(first.root)


async def test_nothing_changed_is_no_snapshot_and_no_request(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path)
    await life.boot()
    make_odd_tree(life.root)
    await life.engine.take("change")
    before = dict(store.objects) if hasattr(store, "objects") else None

    taken = await life.engine.take("change")

    assert taken.record is None
    assert taken.uploaded_bytes == 0
    assert before is None or dict(store.objects) == before


async def test_a_restored_tree_is_not_read_again(tmp_path: Path) -> None:
    store = memory_store()
    first = Life(store, tmp_path / "a")
    await first.boot()
    make_odd_tree(first.root)
    await first.engine.take("change")
    second = Life(store, tmp_path / "b")
    await second.boot()

    taken = await second.engine.take("change")

    assert taken.record is None
    assert taken.read_bytes == 0


async def test_a_change_uploads_what_changed(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path)
    await life.boot()
    make_odd_tree(life.root, files=2000)
    await life.engine.take("change")
    for number in range(10):
        write(life.root / "d1" / f"new-{number}", b"small")

    taken = await life.engine.take("change")

    assert taken.record is not None
    assert taken.record.base is not None
    assert taken.uploaded_bytes < 4096


async def test_deletions_renames_and_changed_kinds_come_back(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    write(life.root / "gone", "1")
    write(life.root / "old-name", "2")
    write(life.root / "file-then-directory", "3")
    (life.root / "directory-then-link").mkdir(parents=True)
    for number in range(8):
        write(life.root / f"keep-{number}", "x")
    await life.engine.take("change")
    (life.root / "gone").unlink()
    (life.root / "old-name").rename(life.root / "new-name")
    (life.root / "file-then-directory").unlink()
    write(life.root / "file-then-directory" / "inside", "4")
    (life.root / "directory-then-link").rmdir()
    (life.root / "directory-then-link").symlink_to("new-name")
    await life.engine.take("change")

    second = Life(store, tmp_path / "b")
    await second.boot()

    assert picture(second.root) == picture(life.root)


async def test_a_database_under_constant_writes_is_whole_and_holds_what_was_committed_before(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    path = life.root / "state" / "agent.db"
    make_database(path, rows=500).close()
    writer = ConstantWriter(path)
    writer.start()
    try:
        for number in range(8):
            await until(lambda: writer.committed > 0)
            committed = writer.committed
            await life.engine.take("change")
            root = tmp_path / f"b{number}"
            await restore_newest(store, root)
            assert integrity(root / "state" / "agent.db") is None
            assert count_rows(root / "state" / "agent.db") >= 500 + committed
    finally:
        writer.stop()
        life.engine.close()


async def test_a_database_under_writes_is_whole_in_every_snapshot(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    database = make_database(life.root / "state" / "agent.db", rows=500)
    try:
        committed = 500
        for number in range(4):
            add_rows(database, 50)
            committed += 50
            await life.engine.take("change")
            other = Life(store, tmp_path / f"b{number}")
            await restore_newest(store, other.root)
            restored = other.root / "state" / "agent.db"
            assert integrity(restored) is None
            assert count_rows(restored) == committed
            assert not (other.root / "state" / "agent.db-shm").exists()
    finally:
        database.close()


async def test_side_files_that_lie_around_are_removed_by_a_restore(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    database = make_database(life.root / "agent.db")
    await life.engine.take("change")
    database.close()
    other = Life(store, tmp_path / "b")
    write(other.root / "agent.db-wal", b"\x37\x7f\x06\x82" + b"poison" * 100)
    write(other.root / "agent.db-shm", b"poison")

    await other.boot()

    assert not (other.root / "agent.db-wal").exists()
    assert count_rows(other.root / "agent.db") == 100


async def test_an_emptied_tree_is_kept_but_never_promoted(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    make_odd_tree(life.root)
    good = await life.engine.take("change")
    full = picture(life.root)
    shutil.rmtree(life.root)
    life.root.mkdir()
    write(life.root / "leftover", "x")

    taken = await life.engine.take("change")

    assert taken.shrunk is not None
    assert taken.record is not None
    assert not taken.record.promoted
    second = Life(store, tmp_path / "b")
    back = await second.boot()
    assert back.record is not None
    assert good.record is not None
    assert back.record.sequence == good.record.sequence
    full.pop(b"a-fifo", None)
    assert picture(second.root) == full


async def test_a_smaller_tree_becomes_the_truth_once_it_is_accepted(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    make_odd_tree(life.root)
    await life.engine.take("change")
    shutil.rmtree(life.root)
    write(life.root / "leftover", "x")
    await life.engine.take("change")

    await life.engine.take("operator", accept_shrink=True)

    second = Life(store, tmp_path / "b")
    await second.boot()
    assert sorted(picture(second.root)) == [b"leftover"]


async def test_a_damaged_newest_snapshot_falls_back_to_the_one_before(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    for number in range(6):
        write(life.root / f"f{number}", "one")
    await life.engine.take("change")
    write(life.root / "f0", "two" * 1000)
    newest = await life.engine.take("change")
    assert newest.record is not None
    data = (await store.get(newest.record.manifest)).data
    await store.put(newest.record.manifest, data[:-3] + b"???")

    second = Life(store, tmp_path / "b")
    back = await second.boot()

    assert [sequence for sequence, _ in back.damaged] == [newest.record.sequence]
    assert (second.root / "f0").read_text() == "one"
    after = await second.engine.take("change", force=True)
    assert after.record is not None
    assert after.record.sequence == newest.record.sequence + 1


async def test_a_missing_pack_falls_back_and_a_bucket_with_nothing_whole_is_refused(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    write(life.root / "f", "one")
    await life.engine.take("change")
    packs = [info.key async for info in store.list("packs/")]
    await store.delete(packs)

    second = Life(store, tmp_path / "b")
    await second.engine.claim()
    with pytest.raises(RepositoryError, match="none of the 1 snapshots"):
        await second.engine.bring_back()
    assert second.disk.marker() is None


async def test_a_lost_head_is_not_taken_for_an_empty_bucket(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    write(life.root / "f", "one")
    await life.engine.take("change")
    await store.delete(["HEAD"])

    second = Life(store, tmp_path / "b")
    with pytest.raises(RepositoryError, match="no HEAD"):
        await second.engine.claim()


async def test_a_superseded_writer_is_fenced_and_its_state_is_rescued(tmp_path: Path) -> None:
    store = memory_store()
    old = Life(store, tmp_path / "a")
    await old.boot()
    write(old.root / "f", "one")
    await old.engine.take("change")
    new = Life(store, tmp_path / "b")
    await new.boot()
    write(old.root / "f", "written too late")

    with pytest.raises(Fenced):
        await old.engine.take("change")

    key = await old.engine.rescue()
    assert key.startswith("rescue/")
    assert (await new.engine.refresh()).epoch == 2
    with pytest.raises(Fenced):
        await old.engine.refresh()


async def test_a_restart_in_the_same_vm_keeps_newer_local_state(tmp_path: Path) -> None:
    store = memory_store()
    first = Life(store, tmp_path)
    await first.boot()
    write(first.root / "f", "saved")
    await first.engine.take("change")
    write(first.root / "f", "not saved yet")

    again = Life(store, tmp_path)
    back = await again.boot()

    assert back.origin == "local"
    assert (again.root / "f").read_text() == "not saved yet"
    taken = await again.engine.take("change")
    assert taken.record is not None


async def test_a_disk_that_the_history_has_left_behind_is_restored_and_its_own_state_rescued(tmp_path: Path) -> None:
    store = memory_store()
    stale = Life(store, tmp_path / "a")
    await stale.boot()
    write(stale.root / "f", "one")
    await stale.engine.take("change")
    write(stale.root / "only-here", "precious")
    elsewhere = Life(store, tmp_path / "b")
    await elsewhere.boot()
    write(elsewhere.root / "f", "two")
    await elsewhere.engine.take("change")

    again = Life(store, tmp_path / "a")
    back = await again.boot()

    assert back.origin == "restored"
    assert back.rescued.startswith("rescue/")
    assert (again.root / "f").read_text() == "two"
    assert not (again.root / "only-here").exists()


async def test_an_interrupted_restore_is_done_again(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    make_odd_tree(life.root)
    os.unlink(life.root / "a-fifo")
    await life.engine.take("change")
    half = Life(store, tmp_path / "b")
    await half.boot()
    shutil.rmtree(half.root / "d1")
    half.disk.unmark()

    again = Life(store, tmp_path / "b")
    back = await again.boot()

    assert back.origin == "restored"
    assert picture(again.root) == picture(life.root)


async def test_an_older_snapshot_is_restored_and_the_state_before_it_is_pinned(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a")
    await life.boot()
    for number in range(6):
        write(life.root / f"f{number}", "one")
    first = await life.engine.take("change")
    assert first.record is not None
    write(life.root / "f0", "two")
    write(life.root / "added", "later")
    await life.engine.take("change")

    record = await life.engine.restore(first.record.sequence)

    assert (life.root / "f0").read_text() == "one"
    assert not (life.root / "added").exists()
    head = life.engine.head
    assert head is not None
    assert [r.pin for r in head.snapshots if r.pin] == ["before-restore"]
    assert record.sequence == head.sequence
    with pytest.raises(UsageError, match="no snapshot 999"):
        await life.engine.restore(999)


async def test_skipped_names_are_neither_stored_nor_touched_by_a_restore(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "a", skip=("cache/", "*.lock"))
    await life.boot()
    for number in range(6):
        write(life.root / f"f{number}", "one")
    write(life.root / "cache" / "big", "x")
    write(life.root / "a.lock", "x")
    first = await life.engine.take("change")
    assert first.record is not None
    assert first.record.files == 6
    write(life.root / "f1", "two")
    await life.engine.take("change")

    await life.engine.restore(first.record.sequence)

    assert (life.root / "cache" / "big").read_text() == "x"
    assert (life.root / "a.lock").exists()


async def test_a_file_that_was_changed_just_now_is_looked_at_again(tmp_path: Path) -> None:
    """Within one tick of the file system's clock a file can change twice and look the same."""
    life = Life(memory_store(), tmp_path)
    await life.boot()
    write(life.root / "file", b"content")
    await life.engine.take("change")
    assert await life.engine.changed()
    await asyncio.sleep(0.05)
    await life.engine.take("change")
    assert not await life.engine.changed()


async def test_a_sparse_file_comes_back_sparse_and_the_same(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "first")
    await life.boot()
    with (life.root / "sparse").open("wb") as file:
        file.truncate(3 << 30)
        for at in (0, 5 << 20, (3 << 30) - 10):
            file.seek(at)
            file.write(b"island")
    with (life.root / "hollow").open("wb") as file:
        file.truncate(1 << 30)
    await life.engine.take("change")
    later = Life(store, tmp_path / "later")
    await later.boot()
    for name in ("sparse", "hollow"):
        before, after = (life.root / name).stat(), (later.root / name).stat()
        assert after.st_size == before.st_size
        assert after.st_blocks * 512 < 4 << 20
    with (later.root / "sparse").open("rb") as file:
        for at in (0, 5 << 20, (3 << 30) - 10):
            file.seek(at)
            assert file.read(6) == b"island"
        file.seek(1 << 30)
        assert file.read(4096) == bytes(4096)


async def test_a_file_that_grows_into_a_sparse_one_is_restored_in_place(tmp_path: Path) -> None:
    life = Life(memory_store(), tmp_path)
    await life.boot()
    (life.root / "file").write_bytes(b"a" * 300_000)
    await life.engine.take("change")
    with (life.root / "file").open("r+b") as file:
        file.truncate(1 << 30)
        file.seek(600 << 20)
        file.write(b"island")
    await life.engine.take("change")
    (sparse,) = [record.sequence for record in life.engine.head.snapshots[-1:]]  # type: ignore[union-attr]
    await life.engine.restore(sparse - 1)
    assert (life.root / "file").read_bytes() == b"a" * 300_000
    await life.engine.restore(sparse)
    assert (life.root / "file").stat().st_size == 1 << 30
    with (life.root / "file").open("rb") as file:
        assert file.read(300_000) == b"a" * 300_000
        file.seek(600 << 20)
        assert file.read(6) == b"island"


async def test_a_file_too_large_to_be_restored_anywhere_is_left_out_and_told_of(tmp_path: Path) -> None:
    life = Life(memory_store(), tmp_path)
    await life.boot()
    (life.root / "stays").write_bytes(b"content")
    with (life.root / "huge").open("wb") as file:
        file.truncate(1 << 40)
    taken = await life.engine.take("change")
    assert taken.unread == ("huge",)
    assert taken.skipped["too-large"] == 1
    (life.root / "huge").unlink()
    assert (await life.engine.take("change")).unread == ()


async def test_a_file_that_grows_too_large_stays_as_it_was_known(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "first")
    await life.boot()
    (life.root / "file").write_bytes(b"content")
    await life.engine.take("change")
    os.truncate(life.root / "file", 1 << 40)
    (life.root / "other").write_bytes(b"content")
    assert (await life.engine.take("change")).unread == ("file",)
    later = Life(store, tmp_path / "later")
    await later.boot()
    assert (later.root / "file").read_bytes() == b"content"


CHUNK = 128 << 10


def sparse(path: Path, chunks: int) -> None:
    with path.open("ab") as file:
        file.truncate(chunks * CHUNK)


async def test_sparse_files_without_number_are_left_out_before_they_fill_the_memory(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "first")
    await life.boot()
    for number in range(200):
        sparse(life.root / f"z{number:03d}", 524_288)
    (life.root / "zzz").write_bytes(b"content")
    tracemalloc.start()
    try:
        taken = await life.engine.take("change")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(taken.unread) >= 196
    assert taken.skipped["too-large"] == len(taken.unread)
    assert peak < 300 << 20


async def test_more_chunks_than_a_snapshot_has_are_left_out_and_what_was_known_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "MAX_CHUNKS", 20)
    store = memory_store()
    life = Life(store, tmp_path / "first")
    await life.boot()
    sparse(life.root / "a", 8)
    sparse(life.root / "b", 8)
    assert (await life.engine.take("change")).unread == ()
    sparse(life.root / "a", 13)
    sparse(life.root / "c", 5)
    sparse(life.root / "d", 4)
    assert set((await life.engine.take("change")).unread) == {"a", "c"}, "what is unchanged keeps its share, d fits"
    os.truncate(life.root / "b", 2 * CHUNK)
    (life.root / "d").unlink()
    await life.engine.take("change")
    assert (await life.engine.take("change")).unread == (), "there is room again"
    later = Life(store, tmp_path / "later")
    await later.boot()
    assert {path.name: path.stat().st_size // CHUNK for path in later.root.iterdir()} == {"a": 13, "b": 2, "c": 5}


async def test_hard_links_that_cannot_be_read_go_on_sharing_their_content(
    tmp_path: Path,
) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "first")
    await life.boot()
    (life.root / "a").write_bytes(b"content")
    for name in "bcd":
        (life.root / name).hardlink_to(life.root / "a")
    await life.engine.take("change")
    (life.root / "a").unlink()
    os.truncate(life.root / "b", 1 << 40)
    await life.engine.take("change")
    later = Life(store, tmp_path / "later")
    await later.boot()
    assert sorted(os.listdir(later.root)) == ["b", "c", "d"]
    assert (later.root / "b").read_bytes() == b"content"
    assert (later.root / "b").samefile(later.root / "c")
    assert (later.root / "b").samefile(later.root / "d")


async def test_hard_links_are_kept_from_snapshot_to_snapshot_without_reading_them_again(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "first")
    await life.boot()
    (life.root / "a").write_bytes(b"content")
    (life.root / "b").hardlink_to(life.root / "a")
    await life.engine.take("change")
    assert not await life.engine.changed() or (await life.engine.take("change")).record is None
    (life.root / "a").unlink()
    await life.engine.take("change")
    later = Life(store, tmp_path / "later")
    await later.boot()
    assert (later.root / "b").read_bytes() == b"content"
    assert not (later.root / "a").exists()


async def test_databases_are_opened_by_a_process_that_is_there_when_one_of_them_changed_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(memory_store(), tmp_path)
    await life.boot()
    with closing(make_database(life.root / "state.sqlite")) as connection:
        write(life.root / "note", b"one")
        await life.engine.take("change")
        await asyncio.sleep(2 * SETTLE_NS / 1e9)
        await life.engine.take("change")  # by now all of it has settled
        started: list[str] = []
        monkeypatch.setattr(DatabaseCopies, "start", _counted(DatabaseCopies.start, started))
        write(life.root / "note", b"two")
        assert (await life.engine.take("change")).record is not None
        assert started == []
        add_rows(connection, 1)
        assert (await life.engine.take("change")).record is not None
        assert started
    life.engine.close()


@pytest.mark.parametrize("in_use", [True, False])
async def test_a_database_that_nobody_wrote_to_is_copied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_use: bool
) -> None:
    """Opening it, SQLite makes an empty log, or changes a log's owner; neither is a change."""
    life = Life(memory_store(), tmp_path)
    await life.boot()
    connection = make_database(life.root / "folder/state.sqlite")
    if not in_use:
        connection.close()
    copied: list[str] = []
    copy = DatabaseCopies.copy

    def counted(copies: DatabaseCopies, path: str, *arguments: Any, **named: Any) -> str | None:
        copied.append(path)
        return copy(copies, path, *arguments, **named)

    monkeypatch.setattr(DatabaseCopies, "copy", counted)
    await asyncio.sleep(2 * SETTLE_NS / 1e9)
    for _ in range(3):
        await life.engine.take("change")
    assert copied == ["folder/state.sqlite"]
    connection.close()
    life.engine.close()


async def test_what_is_written_while_a_database_is_copied_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write within the same tick of the disk's clock as the last one seen leaves no other trace."""
    life = Life(memory_store(), tmp_path)
    await life.boot()
    make_database(life.root / "state.sqlite").close()
    now = os.stat(life.root / "state.sqlite").st_ctime_ns + SETTLE_NS // 4
    monkeypatch.setattr("supervisor.snapshot.capture.time.time_ns", lambda: now)
    copy = DatabaseCopies.copy

    def slow(*arguments: Any, **named: Any) -> str | None:
        nonlocal now
        finding = copy(*arguments, **named)
        now += 10 * SETTLE_NS
        return finding

    monkeypatch.setattr(DatabaseCopies, "copy", slow)
    await life.engine.take("change")
    assert await life.engine.changed()
    await life.engine.take("change")
    assert not await life.engine.changed()
    life.engine.close()


async def test_a_sparse_file_comes_back_with_its_length_and_with_what_is_behind_its_holes(tmp_path: Path) -> None:
    store = memory_store()
    first = Life(store, tmp_path / "a")
    await first.boot()
    with write(first.root / "sparse", b"begins").open("r+b") as file:
        file.truncate(1 << 20)
    with write(first.root / "hole", b"").open("r+b") as file:
        file.truncate(1 << 20)
    await first.engine.take("change")
    second = Life(store, tmp_path / "b")
    await second.boot()
    assert picture(second.root) == picture(first.root)


def _counted(start: Callable[[DatabaseCopies], None], calls: list[str]) -> Callable[[DatabaseCopies], None]:
    def counted(copies: DatabaseCopies) -> None:
        calls.append("start")
        start(copies)

    return counted


async def test_what_no_reader_would_take_never_gets_into_a_snapshot(tmp_path: Path) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "first")
    await life.boot()
    (life.root / "stays").write_bytes(b"content")
    (life.root / "future").write_bytes(b"content")
    os.utime(life.root / "future", (13_569_465_600, 13_569_465_600))  # the year 2400
    for depth, name in ((20, "n" * 250), (300, "d")):  # too long; too deep
        fd = os.open(life.root, os.O_RDONLY)
        for _ in range(depth):
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
            os.mkdir(name, dir_fd=fd)
            inner = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = inner
        os.close(fd)
    taken = await life.engine.take("change")
    assert any(path.count("/") >= 255 for path in taken.unread)
    assert any(len(path) > 4096 for path in taken.unread)
    later = Life(store, tmp_path / "later")
    await later.boot()
    assert (later.root / "stays").read_bytes() == b"content"
    assert (later.root / "future").read_bytes() == b"content"


@pytest.mark.parametrize("to_the_end", [True, False])
async def test_only_an_agent_that_was_still_to_the_end_of_the_capture_gives_a_consistent_snapshot(
    tmp_path: Path, to_the_end: bool
) -> None:
    life = Life(memory_store(), tmp_path)
    await life.boot()
    write(life.root / "file", b"x")

    class Holding:
        still = True

        def __bool__(self) -> bool:
            return self.still

    hold = Holding()

    @asynccontextmanager
    async def quiesce() -> AsyncIterator[Holding]:
        yield hold
        hold.still = False

    def reading(done: int, total: int) -> None:
        hold.still = to_the_end

    taken = await life.engine.take("change", quiesce=quiesce(), progress=reading)

    assert taken.record is not None
    assert taken.record.consistent is to_the_end
