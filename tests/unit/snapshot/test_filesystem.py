"""Snapshots as a file system for any fsspec tool."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import fsspec
import pytest

from supervisor.clock import SystemClock
from supervisor.snapshot.filesystem import SnapshotFileSystem
from supervisor.snapshot.repository import Repository
from supervisor.store.file import FileStore
from tests.support.engine import Life, new_id, picture
from tests.support.trees import make_odd_tree, write


@pytest.fixture
async def life(tmp_path: Path) -> Life:
    """Two snapshots; `later` is in the second alone."""
    life = Life(FileStore(tmp_path / "bucket"), tmp_path / "vm")
    await life.boot()
    make_odd_tree(life.root, 40)
    (life.root / "a-fifo").unlink()
    await life.engine.take("change")
    write(life.root / "later", b"later")
    await life.engine.take("change", release=True)
    life.engine.close()
    return life


@pytest.fixture
def files(life: Life, tmp_path: Path) -> Iterator[SnapshotFileSystem]:
    def connect() -> tuple[FileStore, Repository]:
        store = FileStore(tmp_path / "bucket")
        return store, Repository(store, SystemClock(), new_id)

    files = SnapshotFileSystem(connect)
    yield files
    files.close()


def test_there_is_a_folder_for_each_snapshot_and_one_for_the_latest(files: SnapshotFileSystem) -> None:
    assert files.ls("", detail=False) == ["00000001", "00000002", "latest"]
    assert files.exists("latest/later")
    assert not files.exists("00000001/later")
    assert not files.exists("00000009")
    assert not files.exists("nonsense/x")


def test_every_file_and_link_reads_as_it_was(files: SnapshotFileSystem, life: Life) -> None:
    for path, item in picture(life.root).items():
        name = f"latest/{os.fsdecode(path)}"
        if item[0] == "file":
            assert files.cat_file(name) == item[3], path
            assert files.info(name)["size"] == len(item[3])  # type: ignore[arg-type]
        elif item[0] == "link":
            assert os.fsencode(files.info(name)["destination"]) == item[1]
        else:
            assert files.isdir(name)


def test_any_range_of_a_large_file_is_read(files: SnapshotFileSystem, life: Life) -> None:
    want = (life.root / "large.bin").read_bytes()
    dice = Random(1)
    with files.open("latest/large.bin") as file:
        for _ in range(50):
            start = dice.randrange(len(want))
            size = dice.randrange(200_000)
            file.seek(start)
            assert file.read(size) == want[start : start + size]
    assert files.cat_file("latest/large.bin", -10) == want[-10:]


def test_it_can_be_copied_out_as_a_whole(files: SnapshotFileSystem, tmp_path: Path) -> None:
    files.get("00000002/later", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == b"later"


def test_nothing_can_be_changed(files: SnapshotFileSystem) -> None:
    for change in (
        lambda: files.rm_file("latest/later"),
        lambda: files.pipe_file("latest/new", b""),
        lambda: files.mkdir("latest/new"),
        lambda: files.open("latest/later", "wb"),
        lambda: files.mv("latest/later", "latest/x"),
        lambda: files.touch("latest/later"),
    ):
        with pytest.raises(OSError, match="do not change") as caught:
            change()
        assert caught.value.errno == errno.EROFS


def read_all(files: SnapshotFileSystem) -> None:
    """Every file of the latest snapshot."""
    for name in files.find("latest"):
        files.cat_file(name)


def test_damaged_content_is_an_error_and_never_wrong_bytes(files: SnapshotFileSystem, tmp_path: Path) -> None:
    for pack in (tmp_path / "bucket" / "packs").rglob("*"):
        if pack.is_file():
            data = bytearray(pack.read_bytes())
            data[len(data) // 3] ^= 1
            pack.write_bytes(data)
    with pytest.raises(OSError, match=r"damaged|hash|instead") as caught:
        read_all(files)
    assert caught.value.errno == errno.EIO


def test_it_is_known_to_fsspec_by_name(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLTINIT_BUCKET_URL", f"file://{tmp_path}/bucket")
    monkeypatch.setenv("MOLTINIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOLTINIT_AGENT", "echo")
    files = fsspec.filesystem("moltinit")
    try:
        assert files.cat_file("latest/later") == b"later"
    finally:
        files.close()
