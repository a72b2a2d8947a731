"""What a restore takes of the memory: so much a file, whatever the files hold."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from supervisor.store.file import FileStore
from tests.support.engine import Life

FILES = 30_000
BYTES_A_FILE = 1500
"""With 70 MiB for the interpreter and its libraries, 100,000 files stay below 200 MiB."""

_RESTORE = """
import asyncio, sys
from pathlib import Path
from supervisor.store.file import FileStore
from tests.support.engine import Life

def memory(what):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(what))

async def main(bucket, place):
    life = Life(FileStore(bucket), place)
    await life.engine.claim()
    before = memory("VmRSS")
    back = await life.engine.bring_back()
    print(back.origin, memory("VmHWM") - before)
    life.engine.close()

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
"""


async def test_a_restore_takes_little_memory_for_each_file(tmp_path: Path) -> None:
    life = Life(FileStore(tmp_path / "bucket"), tmp_path / "a")
    life.root.mkdir()
    for number in range(FILES):
        if number % 100 == 0:
            directory = os.open(_made(life.root / f"folder-{number // 100:04d}"), os.O_RDONLY)
        fd = os.open(f"note-{number:06d}.md", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=directory)
        os.write(fd, b"note %d" % number)
        os.close(fd)
        if number % 100 == 99:
            os.close(directory)
    await life.boot()
    await life.engine.take("final", release=True)
    life.engine.close()

    restored = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _RESTORE, str(tmp_path / "bucket"), str(tmp_path / "b")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        check=True,
    )

    origin, taken = restored.stdout.split()
    assert origin == "restored"
    assert int(taken) < FILES * BYTES_A_FILE


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
