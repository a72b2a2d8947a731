"""What is saved and restored: an agent's workspace of small files, and an agent's database with its transcript."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

WORDS = [
    f"{a}{b}{c}" for a in ("to", "wa", "le", "mi", "so", "ra") for b in "aeiou" for c in ("n", "r", "st", "ld", "")
]


@dataclass(frozen=True)
class Workload:
    """How a tree is made, and how it is changed a little."""

    name: str
    make: Callable[[Path], None]
    change: Callable[[Path], None]


def text(dice: random.Random, size: int) -> bytes:
    """Words at random: zstd packs them about three times, as it does chats and notes."""
    words = dice.choices(WORDS, k=size // 4 + 8)
    return " ".join(words).encode()[:size]


def small_files(count: int, size: int) -> Workload:
    """So many files of so many bytes, a hundred in a directory; ten of them change."""

    def make(root: Path) -> None:
        dice = random.Random(1)
        for number in range(count):
            directory = root / f"folder-{number // 100:03d}"
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"note-{number:05d}.md").write_bytes(text(dice, size + dice.randrange(-size // 2, size // 2)))

    def change(root: Path) -> None:
        dice = random.Random(2)
        for number in dice.sample(range(count), 10):
            (root / f"folder-{number // 100:03d}" / f"note-{number:05d}.md").write_bytes(text(dice, size))

    return Workload("files", make, change)


def database(megabytes: int) -> Workload:
    """An SQLite database of so many MiB beside a JSONL transcript; one row in a hundred changes, in ten runs of
    neighbours as one conversation after another does, and the transcript grows by 20 lines."""

    def make(root: Path) -> None:
        dice = random.Random(3)
        root.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(root / "state.sqlite")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE message (id INTEGER PRIMARY KEY, at REAL, body TEXT)")
        rows = ((number, number * 1.5, text(dice, 1900).decode()) for number in range(megabytes * 512))
        connection.executemany("INSERT INTO message VALUES (?, ?, ?)", rows)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        with (root / "transcript.jsonl").open("wb") as file:
            for _ in range(megabytes * 24):
                file.write(b'{"role":"user","text":"' + text(dice, 1950) + b'"}\n')

    def change(root: Path) -> None:
        dice = random.Random(4)
        rows = megabytes * 512
        connection = sqlite3.connect(root / "state.sqlite")
        for _ in range(10):
            first = dice.randrange(rows - rows // 1000)
            for number in range(first, first + rows // 1000):
                connection.execute("UPDATE message SET body = ? WHERE id = ?", (text(dice, 1900).decode(), number))
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        with (root / "transcript.jsonl").open("ab") as file:
            for _ in range(20):
                file.write(b'{"role":"user","text":"' + text(dice, 1950) + b'"}\n')

    return Workload("database", make, change)


def workloads(*, small: bool) -> list[Workload]:
    """Both, in full or at a twentieth of their size."""
    if small:
        return [small_files(500, 4900), database(13)]
    return [small_files(10_000, 4900), database(256)]
