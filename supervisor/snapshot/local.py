"""What one local disk remembers between two lives of the daemon: its id, who runs on it, and what was restored to it.

The marker is written when a restore has ended and removed before one begins: without it the agent's tree means
nothing, neither to launch nor to save. Nobody waits for the disk: until everything is synced, in the background, the
marker counts only under the kernel that it was written under, whose page cache has what the disk may not have yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from supervisor.errors import SettingsError, UsageError

UNKNOWN = "unknown"
"""Where the kernel does not say which it is, a marker counts only once it is synced."""


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """The tree on this disk grew out of snapshot `sequence` (0: a fresh start) of this repository. `kernel` is empty
    once it is safe on the disk."""

    repository: str
    sequence: int
    kernel: str = ""


class LocalDisk:
    """`MOLTINIT_HOME`: the daemon's own directory, which the agent does not see."""

    def __init__(self, path: Path, new_id: Callable[[], str]) -> None:
        self._path = path
        self._marker = path / "restored.json"
        self._lock: int | None = None
        self._marking = threading.Lock()
        self._current: Marker | None = None
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._id = self._read_id(new_id)
        except OSError as error:
            raise SettingsError(
                f"MOLTINIT_HOME ({path}) cannot be written: {error.strerror}", hint="name a place that can"
            ) from error

    @property
    def id(self) -> str:
        """Unique to this disk."""
        return self._id

    @property
    def scratch(self) -> Path:
        """For temporary files of the daemon."""
        return self._path / "scratch"

    def lock(self) -> None:
        """Make sure that no other daemon works on this disk; the kernel lets go of it with the process. Raises
        `UsageError`."""
        fd = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise UsageError(
                f"another moltinit (pid {holder or 'unknown'}) works on {self._path}",
                hint="stop it first, or give this one its own MOLTINIT_HOME",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._lock = fd

    def unlock(self) -> None:
        """Let go of the disk."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def marker(self) -> Marker | None:
        """What was restored here last; None where a restore never ended, or was interrupted."""
        try:
            marker = msgspec.json.decode(self._marker.read_bytes(), type=Marker)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        return marker if marker.kernel in ("", _kernel()) and marker.kernel != UNKNOWN else None

    def mark(self, marker: Marker) -> None:
        """The restore has ended."""
        with self._marking:
            self._current = marker
            self._write(self._marker, msgspec.json.encode(msgspec.structs.replace(marker, kernel=_kernel())))
        threading.Thread(target=self._sync, args=(marker,), name="sync", daemon=True).start()

    def _sync(self, marker: Marker) -> None:
        os.sync()
        with self._marking, contextlib.suppress(OSError):  # the disk is gone, or full: the marker stays as it is
            if self._current is marker:
                self._write(self._marker, msgspec.json.encode(marker), durable=True)

    def close(self) -> None:
        """Write nothing any more; a marker that is not synced yet counts under this kernel alone."""
        with self._marking:
            self._current = None

    def unmark(self) -> None:
        """A restore begins."""
        with self._marking:
            self._current = None
            self._marker.unlink(missing_ok=True)

    def _read_id(self, new_id: Callable[[], str]) -> str:
        path = self._path / "id"
        try:
            known = path.read_text("ascii").strip()
        except FileNotFoundError:
            known = ""
        if not known:
            known = new_id()
            self._write(path, known.encode(), durable=True)
        return known

    @staticmethod
    def _write(path: Path, data: bytes, *, durable: bool = False) -> None:
        temporary = path.with_name(path.name + ".new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, data)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)


def _kernel() -> str:
    """Of this machine, since it was switched on (proc(5), /proc/sys/kernel/random/boot_id)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip() or UNKNOWN
    except OSError:
        return UNKNOWN
