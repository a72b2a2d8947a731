"""Removing from a restored state what says that somebody is using it; OpenClaw's own backup does the same.

The database is the agent's, so its schema is code of the agent's, run in the supervisor: nothing of it may run for
long, and no file beside it may be one that is never read to its end.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from pathlib import Path

from agent_runtime.contract import RuntimeFault
from agent_runtime.openclaw.layout import LEASES

MOST_SECONDS = 5.0
"""For one database; a state as it should be takes milliseconds."""

BUSY_SECONDS = 1.0
"""Nobody should be using it."""

_LONGEST_VALUE = 1 << 20
"""Bytes; bounds what a single SQL function can be made to do, in between of which nothing is asked."""

_STEPS = 10_000
"""Of SQLite's virtual machine between two looks at the clock, about a millisecond."""

_JOURNAL_MAGIC = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
"""A journal that ends in it names another journal, which SQLite opens whatever it is (sqlite.org/fileformat2.html)."""


class NotSanitised(RuntimeFault):
    """The database is as it was."""


def remove_leases(database: Path, seconds: float = MOST_SECONDS) -> int:
    """How many rows were removed, within about `seconds`. Raises `NotSanitised`."""
    try:
        _plain_files_only(database)
        connection = sqlite3.connect(database, timeout=min(BUSY_SECONDS, seconds), isolation_level=None)
        try:
            _tame(connection, time.monotonic() + seconds)
            return _remove(connection)
        finally:
            connection.close()
    except (sqlite3.Error, OSError) as error:
        raise NotSanitised(
            f"the database {database.name} cannot be used: {error}",
            hint="restore an older snapshot: `moltinit snapshots`, then `moltinit restore NUMBER`",
        ) from error


def _plain_files_only(database: Path) -> None:
    """SQLite opens them all, and waits for ever where one is a pipe. Raises `OSError`."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path = f"{database}{suffix}"
        if not os.path.lexists(path):
            continue
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise OSError(f"{os.path.basename(path)} is no plain file")
        if suffix == "-journal" and _end(path) == _JOURNAL_MAGIC:
            raise OSError(f"{os.path.basename(path)} names another journal")


def _end(path: str) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(_JOURNAL_MAGIC)))
        return file.read(len(_JOURNAL_MAGIC))


def _tame(connection: sqlite3.Connection, deadline: float) -> None:
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    # OpenClaw has no trigger on these tables; one that is there makes the DELETE fail, and does not run.
    connection.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    for pragma in ("trusted_schema", "recursive_triggers", "foreign_keys"):
        connection.execute(f"PRAGMA {pragma} = OFF")


def _remove(connection: sqlite3.Connection) -> int:
    removed = 0
    for table in LEASES:
        known = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", (table,))
        if known.fetchone() and connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
            removed += connection.execute(f"DELETE FROM {table}").rowcount
    return removed
