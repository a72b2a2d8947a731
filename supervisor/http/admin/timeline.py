"""Snapshots on a time line, and what lies between two of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from supervisor.http.admin.verdict import Mood
from supervisor.http.admin.words import count, day
from supervisor.units import format_size

Document = dict[str, Any]

PAGE_ROWS = 40
"""Snapshots on a page of all of them."""
DIFF_ROWS = 200

REASONS = {
    "change": "after a change",
    "operator": "by an operator",
    "restore": "after a restore",
    "drain": "when the stop began",
    "final": "with the agent stopped",
}


@dataclass(frozen=True, slots=True)
class SnapshotView:
    """One on the time line. `flags` are words; `mood` is the dot's."""

    sequence: int
    at: float
    reason: str
    size: str
    files: str
    pin: str
    note: str
    flags: tuple[str, ...]
    mood: Mood
    newest: bool
    consistent: bool
    agent: str


@dataclass(frozen=True, slots=True)
class DayView:
    title: str
    snapshots: tuple[SnapshotView, ...]


@dataclass(frozen=True, slots=True)
class TimelineView:
    """A part of the retained snapshots, by day; `older` and `newer` are where the neighbouring parts begin."""

    days: tuple[DayView, ...]
    total: int
    pinned: int
    only_pinned: bool
    older: int | None
    newer: int | None
    can_undo: bool


@dataclass(frozen=True, slots=True)
class DiffView:
    """What a step from one snapshot to another changes; `rows` are the first of `total`."""

    added: int
    changed: int
    removed: int
    rows: tuple[tuple[str, str, str], ...]
    total: int


def timeline(
    records: Sequence[Document], *, most: int = PAGE_ROWS, before: int | None = None, only_pinned: bool = False
) -> TimelineView:
    """At most `most` snapshots below the number `before`, the newest first, grouped by day (UTC)."""
    newest = next((record["sequence"] for record in records if record["promoted"]), None)
    wanted = [record for record in records if record["pin"]] if only_pinned else list(records)
    start = next((i for i, r in enumerate(wanted) if r["sequence"] < before), len(wanted)) if before is not None else 0
    part, rest = wanted[start : start + most], wanted[start + most :]
    views = [snapshot_view(record, newest=newest) for record in part]
    above = wanted[max(0, start - most)]["sequence"] + 1 if start else None
    return TimelineView(
        days=tuple(DayView(title, tuple(group)) for title, group in groupby(views, key=lambda view: day(view.at))),
        total=len(records),
        pinned=sum(bool(record["pin"]) for record in records),
        only_pinned=only_pinned,
        older=part[-1]["sequence"] if rest and part else None,
        newer=above,
        can_undo=any(record["reason"] == "restore" for record in records),
    )


def snapshot_view(record: Document, *, newest: int | None) -> SnapshotView:
    flags = []
    if record["damaged"]:
        flags.append("damaged")
    if not record["promoted"]:
        flags.append("kept aside: it lost most of the files")
    if record["torn"]:
        flags.append(f"{count(record['torn'], 'file')} changed while being read")
    mood = Mood.BAD if record["damaged"] else Mood.WARN if not record["promoted"] else Mood.GOOD
    return SnapshotView(
        sequence=record["sequence"],
        at=record["committed_at"] or record["taken_at"],
        reason=REASONS.get(record["reason"]) or str(record["reason"]),
        size=format_size(record["bytes"]),
        files=count(record["files"], "file"),
        pin=record["pin"],
        note=record["note"],
        flags=tuple(flags),
        mood=mood,
        newest=record["sequence"] == newest,
        consistent=record["consistent"],
        agent=" ".join(filter(None, (record["agent"], record["agent_version"]))),
    )


def diff_view(changes: Iterable[Document], say: Callable[[str], str] = str) -> DiffView:
    """Count all changes and show the first; `say` puts `added`, `changed` and `removed` into other words."""
    listed = list(changes)
    kinds = [change["what"] for change in listed]
    rows = tuple((say(change["what"]), change["path"], _sizes(change)) for change in listed[:DIFF_ROWS])
    return DiffView(kinds.count("added"), kinds.count("changed"), kinds.count("removed"), rows, len(listed))


def _sizes(change: Document) -> str:
    before, after = change["before"], change["after"]
    if before is None or after is None:
        return format_size(after if before is None else before) if (before, after) != (None, None) else ""
    return format_size(after) if before == after else f"{format_size(before)} → {format_size(after)}"
