"""A log file that never grows beyond its size: `agent.log`, then `agent.log.1` and so on, oldest last."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol


class Line(Protocol):
    """What a log file writes."""

    @property
    def at(self) -> float: ...

    @property
    def text(self) -> str: ...


class LogFile:
    """Appends lines, rotates by size, and gives up quietly on a full disk rather than hurt the agent.

    One write for a batch of lines goes to the page cache, so that it takes microseconds on the event loop.

    Args:
        directory: made where it is missing, readable for its owner only.
        max_bytes: a file is rotated before it would grow beyond this.
        keep: how many rotated files stay.
        render: a line as it is written; by default after its time in UTC.
        on_error: told once, when writing starts to fail; writing is tried again at most every `max_bytes` of
            output.
    """

    def __init__(
        self,
        directory: Path,
        name: str = "agent.log",
        *,
        max_bytes: int = 5 * 1024 * 1024,
        keep: int = 3,
        render: Callable[[Line], str] = lambda line: f"{_stamp(line.at)} {line.text}",
        on_error: Callable[[OSError], None] = lambda error: None,
    ) -> None:
        self.path = directory / name
        self._max_bytes = max_bytes
        self._keep = keep
        self._render = render
        self._on_error = on_error
        self._descriptor: int | None = None
        self._size = 0
        self._failed_bytes = 0

    def write(self, lines: Iterable[Line]) -> None:
        """Append lines."""
        data = "".join(f"{self._render(line)}\n" for line in lines).encode("utf-8", "backslashreplace")
        if self._failed_bytes:
            self._failed_bytes -= min(len(data), self._failed_bytes)
            return
        try:
            self._append(data)
        except OSError as error:
            self.close()
            self._failed_bytes = self._max_bytes
            self._on_error(error)

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _append(self, data: bytes) -> None:
        descriptor = self._open()
        if self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
            descriptor = self._open()
        while data:
            written = os.write(descriptor, data)
            self._size += written
            data = data[written:]

    def _open(self) -> int:
        if self._descriptor is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._descriptor = os.open(self.path, flags, 0o600)
            self._size = os.fstat(self._descriptor).st_size
        return self._descriptor

    def _rotate(self) -> None:
        self.close()
        for number in range(self._keep - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        if self._keep:
            self.path.replace(self._numbered(1))
        else:
            self.path.unlink()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
