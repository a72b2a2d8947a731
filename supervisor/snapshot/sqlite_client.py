"""Copies of the agent's databases, made by a process that can be ended: SQLite opens files by name, waits at a pipe for
ever, and parses whatever the agent put there."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import supervisor
from supervisor.snapshot.sqlite import Busy, Damaged

HANG_SECONDS = 30.0
"""For a copy, and a second more for each `HANG_BYTES`: what takes longer hangs. A copy of 326 MB takes 0.3 s."""
HANG_BYTES = 16 << 20

_PROGRAM = "import sys; sys.path.insert(0, sys.argv.pop(1)); from supervisor.snapshot.sqlite_server import main; "


@dataclass(frozen=True, slots=True)
class Server:
    """How the process is started, and whom it becomes (`uid, gid`; None: it stays who we are)."""

    argv: tuple[str, ...]
    user: tuple[int, int] | None = None
    hang_seconds: float = HANG_SECONDS

    @classmethod
    def default(cls, user: tuple[int, int] | None = None) -> Server:
        """This program's own, in a bare interpreter: without site packages it starts in a few hundredths of a
        second."""
        package = Path(supervisor.__file__).resolve().parents[1]
        return cls(
            (sys.executable, "-I", "-S", "-X", "utf8", "-c", _PROGRAM + "main(sys.argv[1:])", str(package)), user
        )


class DatabaseCopies:
    """One capture's copies; the process is started with the first and ended at the end.

    Args:
        root_fd: the open root of the agent's tree.
    """

    def __init__(self, server: Server, root_fd: int) -> None:
        self._server = server
        self._root_fd = root_fd
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def start(self) -> None:
        """Start the process ahead of the first copy, which then need not wait for it."""
        self._process = self._process or self._start()

    def copy(self, path: str, target: Path, volatile_tables: Sequence[str], *, size: int, check: bool) -> str | None:
        """Copy the database at `path` below the root to `target`; see `sqlite.copy_database`.

        Args:
            size: the database's bytes, for how long it may take.
            check: look whether the copy is sound; what is found is returned.

        Raises `Busy` (also where the process hangs or ends) and `Damaged`.
        """
        request = {"path": path, "target": str(target), "tables": list(volatile_tables), "check": check}
        try:
            reply = self._ask(json.dumps(request).encode() + b"\n", self._server.hang_seconds + size / HANG_BYTES)
        except BaseException:
            self._end()
            raise
        if reply.get("outcome") == "damaged":
            raise Damaged(str(reply.get("detail")))
        if reply.get("outcome") != "copied":
            raise Busy(str(reply.get("detail")))
        finding = reply.get("finding")
        return None if finding is None else str(finding)

    def _ask(self, line: bytes, seconds: float) -> dict[str, Any]:
        self.start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            answer = _read_line(process.stdout.fileno(), time.monotonic() + seconds)
            reply = json.loads(answer)
        except (OSError, ValueError) as error:
            raise Busy(f"the process that copies databases ended or hung: {error}") from error
        return reply if isinstance(reply, dict) else {}

    def _start(self) -> subprocess.Popen[bytes]:
        identity = [] if self._server.user is None else [str(number) for number in self._server.user]
        return subprocess.Popen(
            [*self._server.argv, str(self._root_fd), *identity],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={},
            cwd="/",
            pass_fds=(self._root_fd,),
        )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        process.kill()
        process.wait()


def _read_line(fd: int, deadline: float) -> bytes:
    """Raises `TimeoutError`, and `EOFError` where the other side has ended."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    line = b""
    while not line.endswith(b"\n"):
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError("no answer in time")
        data = os.read(fd, 64 << 10)
        if not data:
            raise ConnectionError("it ended without an answer")
        line += data
    return line
