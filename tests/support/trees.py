"""Trees to snapshot: ordinary ones and odd ones."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from pathlib import Path


def write(path: Path, content: bytes | str) -> Path:
    """A file, with the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def make_odd_tree(root: Path, files: int = 200, seed: int = 1) -> None:
    """Names, kinds, modes and times that a careless tool loses."""
    rng = random.Random(seed)
    root.mkdir(parents=True, exist_ok=True)
    base = os.fsencode(root)
    for number in range(files):
        directory = os.path.join(base, b"d%d" % (number % 17), b"e%d" % (number % 5))
        os.makedirs(directory, exist_ok=True)
        path = os.path.join(directory, b"f%d.txt" % number)
        with open(path, "wb") as file:
            file.write(rng.randbytes(rng.choice((0, 1, 10, 3000, 5000))))
        os.chmod(path, rng.choice((0o600, 0o644, 0o755, 0o400)))
        moment = rng.randrange(10**18, 17 * 10**17)
        os.utime(path, ns=(moment, moment))
    odd = [
        b"caf\xc3\xa9",
        b"not-utf8-\xff\xfe",
        b"new\nline",
        b"back\\slash",
        b"-rf",
        b"*",
        b" space ",
        b"\xed\xa0\x80",
    ]
    for name in odd:
        with open(os.path.join(base, name), "wb") as file:
            file.write(name)
        os.symlink(name, os.path.join(base, b"link-to-" + name))
    os.makedirs(os.path.join(base, b"empty", b"inner"))
    os.chmod(os.path.join(base, b"empty"), 0o2750 & 0o1777)
    os.symlink(b"/nowhere/at/all", os.path.join(base, b"dangling"))
    os.symlink(b"../outside", os.path.join(base, b"upwards"))
    with open(os.path.join(base, b"original"), "wb") as file:
        file.write(b"shared" * 100)
    os.link(os.path.join(base, b"original"), os.path.join(base, b"zz-hardlink"))
    os.mkfifo(os.path.join(base, b"a-fifo"))
    os.makedirs(os.path.join(base, b"x" * 200, b"y" * 200))
    with open(os.path.join(base, b"x" * 200, b"y" * 200, b"z" * 250), "wb") as file:
        file.write(b"deep")
    with open(os.path.join(base, b"large.bin"), "wb") as file:
        file.write(rng.randbytes(700_000))


def make_database(path: Path, rows: int = 100, *, wal: bool = True) -> sqlite3.Connection:
    """An open database with a table `t(n)`; the caller closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
    connection.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, body TEXT)")
    add_rows(connection, rows)
    return connection


def add_rows(connection: sqlite3.Connection, rows: int) -> None:
    """More rows, in one transaction."""
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t(body) VALUES (?)", [(f"row {number} " * 20,) for number in range(rows)])
    connection.execute("COMMIT")


def count_rows(path: Path) -> int:
    """How many rows a database file holds on its own."""
    connection = sqlite3.connect(path)
    try:
        (number,) = connection.execute("SELECT count(*) FROM t").fetchone()
        return int(number)
    finally:
        connection.close()


class ConstantWriter(threading.Thread):
    """Commits small transactions without a pause; `committed` rows were there at the moment of asking."""

    def __init__(self, path: Path) -> None:
        super().__init__(name="writer")
        self.committed = 0
        self._path = path
        self._ended = threading.Event()

    def run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        try:
            while not self._ended.is_set():
                add_rows(connection, 5)
                self.committed += 5
        finally:
            connection.close()

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self.join(30)
