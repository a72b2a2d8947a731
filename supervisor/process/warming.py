"""Reading program files into memory before they are needed: the agent's start waits for the disk otherwise.

In a fresh VM nothing is in the page cache, and the disk may be a network away. While claim and restore wait for the
bucket, a thread asks the kernel for the files that the agent's program is about to load, at the lowest priority.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

LOWEST_PRIORITY = 19


@dataclass(slots=True)
class Warmed:
    """What was asked for."""

    files: int = 0
    bytes: int = 0


class Warming:
    """A thread of its own, since a priority stays with a thread.

    Args:
        paths: says what to read; called in the thread. What it names and is not there is passed over.
    """

    def __init__(self, paths: Callable[[], Iterable[Path]]) -> None:
        self._paths = paths
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="warming", daemon=True)
        self.warmed = Warmed()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the file that is being read; at once where it has ended."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait for the end."""
        self._thread.join(seconds)

    def _run(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        # Only speed is lost by a fault here: the agent's own start reads the same files, and says what is wrong.
        with suppress(Exception):
            for path in self._paths():
                for file in _files(path):
                    if self._stop.is_set():
                        return
                    self._warm(file)

    def _warm(self, file: str) -> None:
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return
        try:
            status = os.fstat(descriptor)
            if S_ISREG(status.st_mode):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
                self.warmed.files += 1
                self.warmed.bytes += status.st_size
        finally:
            os.close(descriptor)


def _files(path: Path) -> Iterator[str]:
    if not path.is_dir():
        yield str(path)
        return
    for folder, _, names in os.walk(path):
        for name in names:
            yield os.path.join(folder, name)
