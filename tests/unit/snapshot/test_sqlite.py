"""Copies of databases that are in use, were left behind by a crash, or are in the hands of somebody hostile."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.snapshot import sqlite as module
from supervisor.snapshot.sqlite import SIDE_FILES, Busy, Damaged, copy_database, integrity
from tests.support.trees import count_rows, make_database, write


class Place:
    """An open directory with room for a copy beside it."""

    def __init__(self, path: Path) -> None:
        self.root = path / "root"
        self.root.mkdir()
        self.copy = path / "copy"
        self.fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)

    def take(self, name: str = "data.db", *, empty: tuple[str, ...] = ()) -> Path:
        """A copy, and nothing beside it."""
        copy_database(self.fd, name, self.copy, empty)
        assert sorted(path.name for path in self.copy.parent.iterdir()) == ["copy", "root"]
        assert integrity(self.copy) is None
        return self.copy


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    os.close(place.fd)


@pytest.mark.parametrize("wal", [True, False])
def test_the_copy_holds_all_that_is_committed_and_the_original_stays_untouched(place: Place, wal: bool) -> None:
    with contextlib.closing(make_database(place.root / "data.db", 10, wal=wal)):
        before = {path.name: path.read_bytes() for path in place.root.iterdir() if not path.name.endswith("-shm")}
        assert count_rows(place.take()) == 10
        after = {path.name: path.read_bytes() for path in place.root.iterdir() if not path.name.endswith("-shm")}
    assert after == before


def test_a_database_that_is_held_exclusively_is_copied_all_the_same(place: Place) -> None:
    with contextlib.closing(make_database(place.root / "data.db", 10, wal=False)) as holder:
        holder.execute("PRAGMA locking_mode=EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        holder.execute("INSERT INTO t(body) VALUES ('not committed')")
        assert count_rows(place.take()) == 10
        holder.execute("COMMIT")
        assert count_rows(place.take()) == 11


@pytest.mark.parametrize("wal", [True, False])
def test_what_a_crash_left_behind_is_recovered_in_the_copy_only(place: Place, tmp_path: Path, wal: bool) -> None:
    with contextlib.closing(make_database(tmp_path / "live/data.db", 10, wal=wal)) as connection:
        connection.execute("PRAGMA cache_size=1")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO t(body) VALUES (?)", [("x" * 500,)] * 500)  # spills into the files
        for path in (tmp_path / "live").iterdir():
            if not path.name.endswith("-shm"):
                shutil.copy2(path, place.root / path.name)
        connection.execute("ROLLBACK")
    shutil.rmtree(tmp_path / "live")
    assert len(list(place.root.iterdir())) == 2, "the log or journal of the broken transaction is there"
    database = (place.root / "data.db").read_bytes()
    assert count_rows(place.take()) == 10
    assert (place.root / "data.db").read_bytes() == database


@pytest.mark.parametrize("name", [b"not-utf8-\xff.db", b"per%20cent?mode=rwc#.db", b" space and 'quote'.db"])
def test_any_name_will_do(place: Place, name: bytes) -> None:
    path = os.path.join(os.fsencode(place.root), name)
    make_database(place.root / "plain", 10).close()
    os.rename(place.root / "plain", path)
    assert count_rows(place.take(os.fsdecode(name))) == 10


@pytest.mark.parametrize("suffix", SIDE_FILES)
@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
@pytest.mark.parametrize("wal", [True, False])
def test_a_side_file_that_is_none_is_passed_over(place: Place, suffix: str, kind: str, wal: bool) -> None:
    make_database(place.root / "data.db", 10, wal=wal).close()
    side = place.root / f"data.db{suffix}"
    if kind == "link":
        side.symlink_to("/etc/passwd")
    elif kind == "pipe":
        os.mkfifo(side)
    else:
        side.mkdir()
    assert count_rows(place.take()) == 10


def swapping(monkeypatch: pytest.MonkeyPatch, swap: Any, swap_back: Any) -> None:
    """Names are swapped just while SQLite opens the database."""
    connect = sqlite3.connect

    def between(target: Any, **named: Any) -> sqlite3.Connection:
        if not str(target).startswith("file:"):
            return connect(target, **named)
        swap()
        try:
            connection = connect(target, **named)
            with contextlib.suppress(sqlite3.Error):
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            return connection
        finally:
            swap_back()

    monkeypatch.setattr(module.sqlite3, "connect", between)


@pytest.mark.parametrize("what", ["database", "directory"])
def test_a_link_that_is_there_only_while_sqlite_opens_it_gives_nothing_away(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    make_database(tmp_path / "secret/data.db", 33).close()
    make_database(place.root / "data.db", 10).close()
    moved = place.root if what == "directory" else place.root / "data.db"
    target = tmp_path / "secret" if what == "directory" else tmp_path / "secret/data.db"

    def swap() -> None:
        moved.rename(tmp_path / "aside")
        moved.symlink_to(target)

    def swap_back() -> None:
        moved.unlink()
        (tmp_path / "aside").rename(moved)

    swapping(monkeypatch, swap, swap_back)
    try:
        copy_database(place.fd, "data.db", place.copy)
    except Busy:
        assert not place.copy.exists()
    else:
        assert count_rows(place.copy) == 10


def test_tables_are_emptied_in_the_copy_only_and_leave_no_trace(place: Place) -> None:
    with contextlib.closing(make_database(place.root / "data.db", 10)) as connection:
        connection.execute("CREATE TABLE lease(owner)")
        connection.execute("INSERT INTO lease VALUES ('the-owner-of-the-lease')")
        copy = place.take(empty=("lease", "missing"))
        assert b"the-owner" not in copy.read_bytes()
        assert count_rows(copy) == 10
        assert connection.execute("SELECT count(*) FROM lease").fetchone() == (1,)


def test_what_is_no_database_is_called_damaged(place: Place) -> None:
    write(place.root / "data.db", b"SQLite format 3\0" + b"\xee" * 5000)
    with pytest.raises(Damaged):
        copy_database(place.fd, "data.db", place.copy)


def test_a_pipe_in_the_place_of_the_database_is_busy(place: Place) -> None:
    os.mkfifo(place.root / "data.db")
    with pytest.raises(Busy):
        copy_database(place.fd, "data.db", place.copy)
