"""What is particular to a bucket in a directory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.errors import BucketNotFound
from supervisor.store.file import FileStore

RACE = """
import asyncio, sys
from pathlib import Path
from supervisor.errors import PreconditionFailed
from supervisor.store.file import FileStore
async def main():
    store, won = FileStore(Path(sys.argv[1])), 0
    for number in range(100):
        try:
            await store.put_if_absent(f"k/{number}", sys.argv[2].encode())
            won += 1
        except PreconditionFailed:
            pass
    print(won)
asyncio.run(main())
"""


async def test_a_directory_that_vanished_is_not_an_empty_bucket(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "bucket")
    await store.put("k", b"x")
    shutil.rmtree(tmp_path / "bucket")
    with pytest.raises(BucketNotFound):
        await store.get("k")
    (tmp_path / "bucket").mkdir()
    with pytest.raises(BucketNotFound):
        await store.get("k")
    await store.close()


def test_two_processes_see_each_others_conditions(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path / "bucket"), name], stdout=subprocess.PIPE, text=True
        )
        for name in ("one", "two")
    ]
    won = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    assert sum(won) == 100
