"""Databases that were made to hold up the supervisor."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent_runtime.openclaw.leases import NotSanitised, remove_leases

pytestmark = pytest.mark.timeout(20)

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "openclaw.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE state_leases AS SELECT 'gateway' AS scope")
    return path


@pytest.fixture
def database(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        yield database


def leases(path: Path) -> int:
    with closing(sqlite3.connect(path)) as database:
        count: int = database.execute("SELECT count(*) FROM state_leases").fetchone()[0]
        return count


def test_a_trigger_does_not_run(path: Path, database: sqlite3.Connection) -> None:
    database.execute(f"CREATE TRIGGER t BEFORE DELETE ON state_leases BEGIN {ENDLESS}; END")
    with pytest.raises(NotSanitised, match="trigger"):
        remove_leases(path)
    assert leases(path) == 1


def test_a_statement_that_takes_long_is_cut_short(path: Path, database: sqlite3.Connection) -> None:
    database.execute("DROP TABLE state_leases")
    database.execute("CREATE TABLE state_leases (scope TEXT PRIMARY KEY) WITHOUT ROWID")
    rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000)"
    database.execute(f"INSERT INTO state_leases {rows} SELECT i FROM n")
    database.execute("CREATE TRIGGER t BEFORE DELETE ON state_leases WHEN 0 BEGIN SELECT 1; END")
    with pytest.raises(NotSanitised, match="interrupted"):
        remove_leases(path, seconds=0.0)
    assert leases(path) == 100_000


@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", "-shm"])
@pytest.mark.parametrize("kind", ["a pipe", "a link"])
def test_files_that_are_not_plain_are_not_opened(path: Path, suffix: str, kind: str) -> None:
    place = Path(f"{path}{suffix}")
    place.unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/zero")
    with pytest.raises(NotSanitised, match=rf"{place.name} is no plain file"):
        remove_leases(path)


def test_a_journal_that_names_another_one_is_not_followed(path: Path, tmp_path: Path) -> None:
    pipe = os.fsencode(tmp_path / "pipe")
    os.mkfifo(pipe)
    magic = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
    header = magic + bytes(4) + bytes(4) + (1).to_bytes(4) + (512).to_bytes(4) + (4096).to_bytes(4)
    record = bytes(4) + pipe + len(pipe).to_bytes(4) + sum(pipe).to_bytes(4) + magic
    Path(f"{path}-journal").write_bytes(header.ljust(512, b"\0") + record)
    with pytest.raises(NotSanitised, match="names another journal"):
        remove_leases(path)


def test_a_database_that_somebody_uses_is_told(path: Path, database: sqlite3.Connection) -> None:
    database.execute("BEGIN EXCLUSIVE")
    with pytest.raises(NotSanitised, match="locked"):
        remove_leases(path, seconds=0.1)
