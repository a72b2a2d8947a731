"""A tree that changes between the walk and the reading: whatever the agent puts in a file's place, nothing from
outside of its tree gets into the bucket, and nothing hangs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.snapshot import capture as capture_module
from supervisor.snapshot.scan import scan
from supervisor.store.memory import MemoryStore
from tests.support.engine import Life, memory_store, picture
from tests.support.trees import write

SECRET = b"a secret from outside of the tree, and long enough to be found again " * 20


def to_link(root: Path, outside: Path) -> None:
    (root / "file").unlink()
    (root / "file").symlink_to(outside / "secret")


def directory_to_link(root: Path, outside: Path) -> None:
    shutil.rmtree(root / "folder")
    (root / "folder").symlink_to(outside)


def to_fifo(root: Path, outside: Path) -> None:
    (root / "file").unlink()
    os.mkfifo(root / "file")


def to_directory(root: Path, outside: Path) -> None:
    (root / "file").unlink()
    (root / "file").mkdir()
    write(root / "file/inside", b"x")


def gone(root: Path, outside: Path) -> None:
    shutil.rmtree(root / "folder")
    (root / "file").unlink()


def cut(root: Path, outside: Path) -> None:
    os.truncate(root / "file", 3)


def stored(store: MemoryStore) -> bytes:
    """All that the bucket holds."""
    return b"".join(version.data for version in store._objects.values())


@pytest.mark.parametrize("change", [to_link, directory_to_link, to_fifo, to_directory, gone, cut])
async def test_what_is_put_in_a_names_place_leads_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, Path], None]
) -> None:
    outside = tmp_path / "outside"
    write(outside / "secret", SECRET)
    store = memory_store()
    life = Life(store, tmp_path)
    await life.boot()
    write(life.root / "file", b"content" * 100)
    write(life.root / "folder/secret", b"its own" * 100)
    write(life.root / "stays", b"content")
    changed = False

    def scan_then_change(root: object, rules: object) -> object:
        nonlocal changed
        walked = scan(root, rules)  # type: ignore[arg-type]
        if not changed:
            changed = True
            change(life.root, outside)
        return walked

    with monkeypatch.context() as patch:
        patch.setattr(capture_module, "scan", scan_then_change)
        await life.engine.take("change", accept_shrink=True)

    monkeypatch.setattr("supervisor.snapshot.zstd.LEVEL", 1)
    later = Life(store, tmp_path / "later")
    await later.boot()
    assert (later.root / "stays").read_bytes() == b"content"
    for item in picture(later.root).values():
        assert SECRET not in item
    assert SECRET[:60] not in stored(store)


async def test_a_directory_tree_deeper_than_any_is_cut_off_and_counted(tmp_path: Path) -> None:
    life = Life(memory_store(), tmp_path)
    await life.boot()
    write(life.root / "file", b"content")
    fd = os.open(life.root, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        deeper = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    taken = await life.engine.take("change")
    assert taken.skipped["too-deep"] == 1
    again = Life(life.engine._store, tmp_path / "again")
    await again.boot()
    assert (again.root / "file").read_bytes() == b"content"


async def test_a_sparse_file_costs_its_reading_and_no_memory(tmp_path: Path) -> None:
    life = Life(memory_store(), tmp_path)
    await life.boot()
    with (life.root / "sparse").open("wb") as file:
        file.truncate(300 << 20)
        file.write(b"begins")
    taken = await life.engine.take("change")
    assert taken.uploaded_bytes < 1 << 20
    assert taken.record is not None
    assert taken.record.bytes == 300 << 20


async def test_a_file_that_grows_without_end_is_stored_as_of_some_moment_and_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(memory_store(), tmp_path)
    await life.boot()
    write(life.root / "log", b"line\n" * 1000)
    read = os.pread

    def pread_while_it_grows(fd: int, size: int, offset: int) -> bytes:
        with (life.root / "log").open("ab") as file:
            file.write(b"line\n")
        return read(fd, size, offset)

    with monkeypatch.context() as patch:
        patch.setattr(capture_module.os, "pread", pread_while_it_grows)
        taken = await life.engine.take("change")
    assert taken.record is not None
    assert taken.record.torn == 1
    assert (await life.engine.take("change")).record is not None  # as soon as it holds still
