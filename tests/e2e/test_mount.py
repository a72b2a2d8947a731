"""`moltinit mount` on a real FUSE."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from supervisor.store.file import FileStore
from tests.support.engine import Life
from tests.support.trees import make_odd_tree

PROJECT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not os.access("/dev/fuse", os.W_OK) or not (ctypes.util.find_library("fuse") or ctypes.util.find_library("fuse3")),
    reason="needs /dev/fuse and libfuse (apt-get install libfuse2)",
)


async def test_a_mounted_snapshot_is_the_tree_and_unmounting_leaves_nothing(tmp_path: Path) -> None:
    life = Life(FileStore(tmp_path / "bucket"), tmp_path / "vm")
    await life.boot()
    make_odd_tree(life.root, 40)
    (life.root / "a-fifo").unlink()
    await life.engine.take("change", release=True)
    life.engine.close()
    target = tmp_path / "mounted"
    target.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "MOLTINIT_HOME": str(tmp_path / "home"),
        "MOLTINIT_AGENT": "echo",
        "MOLTINIT_BUCKET_URL": f"file://{tmp_path}/bucket",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor", "mount", str(target)],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        while not os.path.ismount(target):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert sorted(os.listdir(target)) == ["00000001", "latest"]
        compared = subprocess.run(
            ["diff", "-r", "--no-dereference", str(life.root), str(target / "latest")],
            capture_output=True,
            check=False,
        )
        assert compared.returncode == 0, compared.stdout + compared.stderr
        with pytest.raises(OSError, match="Read-only"):
            (target / "latest" / "new").write_bytes(b"")
    finally:
        subprocess.run(["umount", str(target)], check=False)
        process.communicate(timeout=20)
    assert process.returncode == 0
    assert not os.path.ismount(target)
