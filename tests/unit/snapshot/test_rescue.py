"""The stand-alone reader of docs/, on repositories that the engine wrote."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.store.file import FileStore
from tests.support.engine import Life, picture
from tests.support.trees import make_odd_tree

SCRIPT = Path(__file__).parents[3] / "docs" / "rescue.py"


def rescue(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
async def bucket(tmp_path: Path) -> Path:
    """Two snapshots: an odd tree, then a difference to it."""
    life = Life(FileStore(tmp_path / "bucket"), tmp_path / "vm")
    make_odd_tree(life.root, files=60)
    await life.boot()
    await life.engine.take("change")
    (life.root / "later.txt").write_text("later")
    await life.engine.take("change")
    life.engine.close()
    return tmp_path / "bucket"


async def test_the_newest_snapshot_comes_back_identical(bucket: Path, tmp_path: Path) -> None:
    done = rescue(bucket, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    want = picture(tmp_path / "vm" / "home")
    assert picture(tmp_path / "out") == want


async def test_an_older_snapshot_comes_back_by_its_number(bucket: Path, tmp_path: Path) -> None:
    assert rescue(bucket, tmp_path / "out", 1).returncode == 0
    assert not (tmp_path / "out" / "later.txt").exists()


async def test_damage_is_told(bucket: Path, tmp_path: Path) -> None:
    for pack in (bucket / "packs").rglob("*"):
        if pack.is_file():
            data = bytearray(pack.read_bytes())
            data[len(data) // 3] ^= 0xFF
            pack.write_bytes(data)
    assert rescue(bucket, tmp_path / "out").returncode != 0


async def test_what_a_fenced_writer_kept_is_readable_by_its_key(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "bucket")
    first, second = Life(store, tmp_path / "a"), Life(store, tmp_path / "b")
    first.root.mkdir(parents=True)
    await first.boot()
    (first.root / "note").write_text("only here")
    await second.boot()
    key = await first.engine.rescue()
    first.engine.close()
    second.engine.close()
    done = rescue(tmp_path / "bucket", tmp_path / "out", key)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "note").read_text() == "only here"
