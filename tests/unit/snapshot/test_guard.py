"""What counts as a loss, and what is ordinary use."""

from __future__ import annotations

from supervisor.snapshot.format import KIND_FILE
from supervisor.snapshot.guard import shrinks
from supervisor.snapshot.rules import Classes
from supervisor.snapshot.tree import Blob, Entry, Frame, Pack, Tree

NOTHING_FIRST = Classes(())
FRAME = Frame(Pack("aa", 1), 0, 1, 1)


def tree(**sizes: int) -> Tree:
    return Tree({path: Entry(path, KIND_FILE, 0o600, 0, _content(size)) for path, size in sizes.items()})


def _content(size: int) -> tuple[Blob, ...]:
    return (Blob(bytes(32), FRAME, 0, size),) if size else ()


def test_one_large_file_may_be_removed() -> None:
    before = tree(video=250 << 20, a=100_000, b=100_000, c=1, d=1)
    assert shrinks(before, tree(a=100_000, b=100_000, c=1, d=1), NOTHING_FIRST) is None


def test_a_large_file_that_is_there_and_empty_is_a_loss() -> None:
    before = tree(database=250 << 20, a=100_000, b=100_000, c=1, d=1)
    assert shrinks(before, tree(database=0, a=100_000, b=100_000, c=1, d=1), NOTHING_FIRST) is not None


def test_most_files_gone_is_a_loss() -> None:
    before = tree(a=1, b=1, c=1, d=1, e=1)
    assert shrinks(before, tree(a=1, b=1), NOTHING_FIRST) is not None


def test_an_empty_tree_is_a_loss_however_few_files_there_were() -> None:
    assert shrinks(tree(a=100_000), tree(), NOTHING_FIRST) is not None
