"""SQLite databases are taken with the online backup API, never copied raw: a raw copy of a database in use mixes
two of its states, and one without its write-ahead log misses the last commits.

One step for the whole database (`pages=-1`): 326 MB under load took 0.3 s and stalled the writer by 0.5 ms, while a
backup in small steps may never finish beside a busy writer.

The databases are an untrusted agent's: this runs in a process of its own (`sqlite_server`), which can be ended where a
pipe holds it up and which holds no secret.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

MAGIC = b"SQLite format 3\0"
SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database. Never stored: a backup holds all of it, and one that meets another
database's log is corrupted by it."""

BUSY_SECONDS = 1.0
"""How long a lock in the way is waited for; a commit or a checkpoint takes milliseconds."""

STABLE_ATTEMPTS = 3
"""How often a database that cannot be opened is copied file by file, until nothing changed meanwhile."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Busy(Exception):
    """The database cannot be copied right now: it is locked, changes all the time, or was swapped meanwhile."""


class Damaged(Exception):
    """These are not the bytes of a database, or not of a sound one."""


def copy_database(directory: int, name: str, target: Path, volatile_tables: Sequence[str] = ()) -> None:
    """A complete, self-contained copy of the database `name` in an open directory as of now, with these tables empty.

    By the online backup API where SQLite can open the database for reading, else from copies of its files. Raises
    `Busy`, `Damaged`, and `OSError` where it has gone or the target cannot be written.
    """
    _remove(target)
    fd = os.open(name, _READ, dir_fd=directory)
    # Kept open until the end: closing any descriptor of a file gives up all locks of this process on it.
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Busy(f"{name!r} is no file any more")
        try:
            copied = _sides_are_files(directory, name) and _back_up(directory, name, os.fstat(fd), target)
            if not copied:
                _recover(directory, name, target)
            _empty(target, volatile_tables)
        except sqlite3.OperationalError as error:
            raise Busy(str(error)) from error
        except sqlite3.Error as error:
            raise Damaged(str(error)) from error
    finally:
        os.close(fd)
    os.chmod(target, 0o600)


def _back_up(directory: int, name: str, expected: os.stat_result, target: Path) -> bool:
    """False where SQLite cannot open the database read-only: a journal to roll back, a lock that stays.

    Read-only, since the last connection that may write folds the log into the database when it closes, and the tree
    is not ours to change.
    """
    before = set(_descriptors())
    reader = sqlite3.connect(
        f"file:/proc/self/fd/{directory}/{quote(os.fsencode(name))}?mode=ro",
        uri=True,
        isolation_level=None,
        timeout=BUSY_SECONDS,
    )
    try:
        reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        _check_opened(directory, name, expected, {fd: row for fd, row in _descriptors().items() if fd not in before})
        with contextlib.closing(_open_copy(target)) as writer:
            reader.backup(writer, pages=-1)
    except sqlite3.OperationalError:
        return False
    finally:
        reader.close()
    return True


def _open_copy(target: Path) -> sqlite3.Connection:
    """The copy is read once and deleted: nothing of it needs to survive a crash."""
    writer = sqlite3.connect(target, isolation_level=None)
    writer.execute("PRAGMA journal_mode=OFF")
    writer.execute("PRAGMA synchronous=OFF")
    return writer


def _descriptors() -> dict[int, os.stat_result]:
    found = {}
    for text in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(text)] = os.fstat(int(text))
    return found


def _check_opened(directory: int, name: str, expected: os.stat_result, opened: Mapping[int, os.stat_result]) -> None:
    """SQLite opens by name and follows links on the way: what it has opened must be what lies in this directory."""
    allowed = {_identity(expected)}
    for suffix in SIDE_FILES:
        with contextlib.suppress(FileNotFoundError):
            allowed.add(_identity(os.stat(name + suffix, dir_fd=directory, follow_symlinks=False)))
    identities = {_identity(row) for row in opened.values()}
    if _identity(expected) not in identities or not identities <= allowed:
        raise Busy(f"{name!r} was swapped while it was opened")


def _identity(row: os.stat_result) -> tuple[int, int]:
    return row.st_dev, row.st_ino


def _sides_are_files(directory: int, name: str) -> bool:
    """A pipe in the place of a journal would be waited at for ever."""
    for suffix in SIDE_FILES:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(name + suffix, dir_fd=directory, follow_symlinks=False).st_mode):
                return False
    return True


def _recover(directory: int, name: str, target: Path) -> None:
    """Copy the database's files at a moment at which none of them changes, and let SQLite recover the copy as it would
    after a crash at that moment. Shared memory is no content: SQLite makes it anew."""
    for _ in range(STABLE_ATTEMPTS):
        before = _states(directory, name)
        _remove(target)
        for suffix in before:
            _copy_bytes(directory, name + suffix, Path(f"{target}{suffix}"))
        if _states(directory, name) == before:
            break
    else:
        raise Busy(f"{name!r} is locked, and changes all the time")
    with contextlib.closing(sqlite3.connect(target, isolation_level=None, timeout=BUSY_SECONDS)) as copy:
        copy.execute("PRAGMA synchronous=OFF")
        copy.execute("PRAGMA locking_mode=EXCLUSIVE")
        copy.execute("PRAGMA journal_mode=DELETE").fetchone()
        copy.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    _remove_sides(target)


def _states(directory: int, name: str) -> dict[str, tuple[int, ...]]:
    states: dict[str, tuple[int, ...]] = {}
    for suffix in ("", "-wal", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            row = os.stat(name + suffix, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISREG(row.st_mode):
                states[suffix] = (*_identity(row), row.st_size, row.st_mtime_ns, row.st_ctime_ns)
    if "" not in states:
        raise FileNotFoundError(name)
    return states


def _copy_bytes(directory: int, name: str, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # what vanished meanwhile shows in the states
        source = os.open(name, _READ, dir_fd=directory)
        with open(source, "rb") as reader, open(target, "wb") as writer:
            if stat.S_ISREG(os.fstat(source).st_mode):
                while data := reader.read(1 << 20):
                    writer.write(data)


def _remove(target: Path) -> None:
    target.unlink(missing_ok=True)
    _remove_sides(target)


def _remove_sides(target: Path) -> None:
    for suffix in SIDE_FILES:
        Path(f"{target}{suffix}").unlink(missing_ok=True)


def _empty(target: Path, tables: Sequence[str]) -> None:
    """What is removed is overwritten, so that two copies that differ in nothing else are the same bytes."""
    if not tables:
        return
    with contextlib.closing(_open_copy(target)) as connection:
        known = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        connection.execute("PRAGMA secure_delete=ON")
        for table in tables:
            if table in known:
                connection.execute(f'DELETE FROM "{table}"')


def integrity(path: Path, *, quick: bool = False) -> str | None:
    """None for a sound database, else the first finding. The file is not changed."""
    connection = sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1", uri=True, isolation_level=None)
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
