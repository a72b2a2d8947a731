"""How a command finds the daemon that works on this disk: who holds the lock, and at which address it answers."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path


class DaemonFile:
    """`daemon.json` in MOLTINIT_HOME; it means something only while the daemon's lock is held."""

    def __init__(self, home: Path) -> None:
        self._path = home / "daemon.json"
        self._lock = home / "lock"

    def write(self, host: str, port: int) -> None:
        """Say where the daemon answers, for as long as it lives."""
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        shown = f"[{reachable}]" if ":" in reachable else reachable
        document = {"pid": os.getpid(), "url": f"http://{shown}:{port}"}
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(document))
        temporary.replace(self._path)

    def remove(self) -> None:
        """The daemon is gone."""
        self._path.unlink(missing_ok=True)

    def url(self) -> str | None:
        """The address of the daemon that lives on this disk, or None where none does."""
        if not self._held():
            return None
        try:
            document = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        url = document.get("url") if isinstance(document, dict) else None
        return url if isinstance(url, str) else None

    def _held(self) -> bool:
        try:
            fd = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False
