"""Small files in a directory that belongs to the agent: written whole or not at all, read without surprises."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from agent_runtime.contract import RuntimeFault

MOST_BYTES = 4 << 20


def read_small(path: Path) -> bytes | None:
    """A file's content; None for what is not there, or is no plain file of a few megabytes."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_size <= MOST_BYTES:
                return file.read(MOST_BYTES + 1)
    return None


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file, for its owner only. Raises `RuntimeFault`."""
    temporary = path.with_name(f".{path.name}.moltinit.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RuntimeFault(
            f"{path} cannot be written: {error.strerror}", hint="see whether the disk is full"
        ) from error
