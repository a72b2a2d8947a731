"""What differs between two trees, by name."""

from __future__ import annotations

from dataclasses import dataclass

from supervisor.snapshot.format import KIND_DIRECTORY, encode_path
from supervisor.snapshot.tree import Entry, Tree


@dataclass(frozen=True, slots=True)
class Change:
    """One name. `before` and `after` are bytes; None where it is not there."""

    path: str
    what: str
    before: int | None
    after: int | None


def compare(before: Tree, after: Tree) -> list[Change]:
    """The names that were `added`, `changed` or `removed` from `before` to `after`, in path order. Directories count
    only where they come or go, or where their mode changed. Paths are escaped as in manifests."""
    changes: list[Change] = []
    for path in sorted(before.entries.keys() | after.entries.keys()):
        old, new = before.entries.get(path), after.entries.get(path)
        if new is None or not new.same_as(old):
            what = "added" if old is None else "removed" if new is None else "changed"
            changes.append(Change(encode_path(path), what, _size(old), _size(new)))
    return changes


def _size(entry: Entry | None) -> int | None:
    if entry is None:
        return None
    return 0 if entry.kind == KIND_DIRECTORY else entry.size
