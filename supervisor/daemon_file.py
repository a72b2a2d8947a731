"""How a command finds the daemon that works on this disk: who holds the lock, at which address it answers, and with
which credential: a secret of this life alone, in a file that only the daemon's user reads."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from supervisor.errors import UsageError


class DaemonFile:
    """`daemon.json` in MOLTINIT_HOME; it means something only while the daemon's lock is held."""

    def __init__(self, home: Path) -> None:
        self._path = home / "daemon.json"
        self._lock = home / "lock"

    def write(self, host: str, port: int, credential: str) -> None:
        """Say where the daemon answers, for as long as it lives, and what a command has to present there."""
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        shown = f"[{reachable}]" if ":" in reachable else reachable
        document = {"pid": os.getpid(), "url": f"http://{shown}:{port}", "credential": credential}
        temporary = self._path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(json.dumps(document))
        temporary.replace(self._path)

    def remove(self) -> None:
        """The daemon is gone."""
        self._path.unlink(missing_ok=True)

    def read(self) -> tuple[str, str] | None:
        """Address and credential of the daemon that lives on this disk, or None where none does. Raises `UsageError`
        where it is another user's."""
        if not self._held():
            return None
        try:
            document = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        except PermissionError as error:
            raise UsageError(
                f"{self._path} is not yours to read: the daemon runs as another user",
                hint="run this command as the daemon's user",
            ) from error
        if not isinstance(document, dict) or not isinstance(document.get("url"), str):
            return None
        return document["url"], str(document.get("credential", ""))

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
