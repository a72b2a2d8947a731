"""The shrink guard: an empty directory never becomes the truth.

A snapshot that would drop most of the tree is kept, but not promoted: boots restore the one before it until an
operator accepts the smaller tree.
"""

from __future__ import annotations

from supervisor.snapshot.format import KIND_FILE
from supervisor.snapshot.rules import Classes
from supervisor.snapshot.tree import Tree

FEWEST_FILES = 4
"""Trees with fewer files than this change by large fractions in ordinary use."""
FEWEST_BYTES = 64 << 10


def shrinks(before: Tree, now: Tree, classes: Classes) -> str | None:
    """Why `now` should not replace `before`, or None where it may."""
    old_files, new_files = before.files, now.files
    if old_files >= FEWEST_FILES and new_files * 2 < old_files:
        return f"{old_files - new_files} of {old_files} files are gone"
    if new_files == 0 and before.bytes >= FEWEST_BYTES:
        return f"all {old_files} files are gone"
    # Of files that are still there: to remove one that is large is ordinary use, to empty what one keeps is not.
    kept = before.entries.keys() & now.entries.keys()
    old_bytes = sum(before.entries[path].size for path in kept)
    new_bytes = sum(now.entries[path].size for path in kept)
    if old_bytes >= FEWEST_BYTES and new_bytes * 10 < old_bytes:
        return f"{old_bytes - new_bytes} of {old_bytes} bytes are gone from files that remain"
    essential = {path for path, entry in before.entries.items() if entry.kind == KIND_FILE and classes.of(path) == 0}
    lost = essential - now.entries.keys()
    if len(essential) >= 2 and len(lost) * 2 > len(essential):
        return f"{len(lost)} of {len(essential)} essential files are gone, among them {min(lost)}"
    return None
