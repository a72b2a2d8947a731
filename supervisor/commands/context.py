"""What a command knows: the settings, and whom it speaks to."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from supervisor.settings import Settings, load


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. Raises `SettingsError`."""
    environ = os.environ if environ is None else environ
    return load(environ, cwd=Path.cwd(), is_root=os.geteuid() == 0)


def show_json(document: object) -> None:
    """One JSON document on standard output."""
    print(json.dumps(document, indent=2 if sys.stdout.isatty() else None))


def moment(seconds: float) -> str:
    """Seconds since 1970 as local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "-"


class Step(Protocol):
    """Called with what is done and what there is to do."""

    def __call__(self, done: int, total: int) -> None: ...


@contextmanager
def progress(what: str, *, quiet: bool = False) -> Iterator[Step]:
    """A bar on a terminal, a line now and then in a log, nothing where JSON is asked for."""
    if quiet:
        yield lambda done, total: None
        return
    if not sys.stderr.isatty():
        yield _Lines(what)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    INTERVAL_SECONDS = 5.0

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = time.monotonic() + self.INTERVAL_SECONDS

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self.INTERVAL_SECONDS
            share = f"{100 * done // total} %" if total else str(done)
            print(f"{self._what}: {share}", file=sys.stderr)


def table(headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Columns as wide as their content, on standard output."""
    texts = [tuple(str(cell) for cell in row) for row in rows]
    widths = [max(len(row[at]) for row in [headings, *texts]) for at in range(len(headings))]
    for row in [headings, *texts]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
