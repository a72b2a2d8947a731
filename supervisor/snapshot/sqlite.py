"""SQLite databases are taken with the online backup API, never copied raw: a raw copy of a database in use mixes
two of its states, and one without its write-ahead log misses the last commits.

One step for the whole database (`pages=-1`): 326 MB under load took 0.3 s and stalled the writer by 0.5 ms, while a
backup in small steps may never finish beside a busy writer.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

MAGIC = b"SQLite format 3\0"
SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database. Never stored: a backup holds all of it, and one that meets another
database's log is corrupted by it."""

BUSY_SECONDS = 5.0


def copy_database(source: Path, target: Path, volatile_tables: Sequence[str] = ()) -> None:
    """A complete, self-contained copy of the database as of now, with these tables empty. Raises `sqlite3.Error`."""
    target.unlink(missing_ok=True)
    reader = _open_for_reading(source)
    try:
        writer = sqlite3.connect(target, isolation_level=None)
        try:
            # The copy is read once and deleted: nothing of it needs to survive a crash.
            writer.execute("PRAGMA journal_mode=OFF")
            writer.execute("PRAGMA synchronous=OFF")
            reader.backup(writer, pages=-1)
            _empty(writer, volatile_tables)
        finally:
            writer.close()
    finally:
        reader.close()
    os.chmod(target, 0o600)


def _empty(connection: sqlite3.Connection, tables: Sequence[str]) -> None:
    """What is removed is overwritten, so that two copies that differ in nothing else are the same bytes."""
    if not tables:
        return
    known = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    connection.execute("PRAGMA secure_delete=ON")
    for table in tables:
        if table in known:
            connection.execute(f'DELETE FROM "{table}"')


def _open_for_reading(source: Path) -> sqlite3.Connection:
    """Read-only first, since the last connection that may write folds the log into the database when it closes, and
    the tree is not ours to change. Where read-only is not possible (a hot journal to roll back), with writing."""
    reader = _connect(source, "ro")
    try:
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        reader.close()
        reader = _connect(source, "rw")
    except BaseException:
        reader.close()
        raise
    return reader


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_SECONDS)


def integrity(path: Path, *, quick: bool = False) -> str | None:
    """None for a sound database, else the first finding. The file is not changed."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        # OpenClaw's schema uses a function that SQLite has from 3.43 on; without it the check itself fails.
        connection.create_function(
            "octet_length",
            1,
            lambda value: None if value is None else len(_octets(value)),
            deterministic=True,
        )
        row = connection.execute("PRAGMA quick_check(1)" if quick else "PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        return str(error)
    finally:
        connection.close()
    return None if row == ("ok",) else str(row[0] if row else "no answer")


def _octets(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def owner_of_side_file(path: str) -> str | None:
    """The path of the database that `path` would be a side file of, by name alone."""
    for suffix in SIDE_FILES:
        if path.endswith(suffix) and len(path) > len(suffix):
            return path[: -len(suffix)]
    return None
