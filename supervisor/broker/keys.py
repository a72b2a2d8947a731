"""The real keys, by the name of their setting; a file of them is read again when it has changed.

Environment variables of a running process cannot change, so a key that is to be rotated without a restart comes from
a file (`MOLTINIT_KEYS_FILE`), as platforms mount secrets. It is looked at before a request is sent, at most once a
second, so that no signal and no watcher is needed, and a rotation is never missed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from supervisor.clock import Clock
from supervisor.errors import SettingsError
from supervisor.health.problems import Problems

LOOK_SECONDS = 1.0
MAX_FILE_BYTES = 64 * 1024
PROBLEM = "keys-file"


def read_keys(path: Path, known: Collection[str]) -> dict[str, str]:
    """`NAME=value` lines; blank ones and `#` comments are skipped, quotes around a value are dropped.

    Raises `SettingsError` for a file that cannot be read, that others may read, or that holds what is no key. No value
    is ever part of the error.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            about = os.fstat(fd)
            data = os.read(fd, MAX_FILE_BYTES + 1) if stat.S_ISREG(about.st_mode) else b""
        finally:
            os.close(fd)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"MOLTINIT_KEYS_FILE ({path}) cannot be read: {why}", hint=_HINT) from error
    if not stat.S_ISREG(about.st_mode) or len(data) > MAX_FILE_BYTES:
        raise SettingsError(f"MOLTINIT_KEYS_FILE ({path}) is no file of at most 64 KiB", hint=_HINT)
    if about.st_mode & 0o077:
        raise SettingsError(
            f"MOLTINIT_KEYS_FILE ({path}) may be read by others (mode {stat.S_IMODE(about.st_mode):04o})",
            hint=f"chmod 600 {path}",
        )
    return _parse(path, text, known)


_HINT = "one NAME=value a line, the names as in docs/settings.md"


def _parse(path: Path, text: str, known: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        name, value = name.strip().removeprefix("export ").strip(), value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        if not separator or name not in known:
            raise SettingsError(f"MOLTINIT_KEYS_FILE ({path}), line {number}: no key that the broker knows", hint=_HINT)
        if not value or not value.isascii() or not value.isprintable():
            raise SettingsError(f"MOLTINIT_KEYS_FILE ({path}), line {number}: {name} has no usable value", hint=_HINT)
        found[name] = value
    return found


class Keyring:
    """Gives a key for one request.

    Args:
        values: the keys of the settings; a file's win over them.
        file: the file, or None.
        known: the names that a file may hold.
        learn: is told every value that comes from the file, so that it is masked in the log.
    """

    def __init__(
        self,
        values: Mapping[str, str],
        *,
        file: Path | None,
        known: Collection[str],
        clock: Clock,
        problems: Problems,
        learn: Callable[[Collection[str]], None] = lambda _: None,
    ) -> None:
        self._values = dict(values)
        self._file = file
        self._known = known
        self._clock = clock
        self._problems = problems
        self._learn = learn
        self._from_file: dict[str, str] = {}
        self._seen: tuple[int, ...] | None = None
        self._look_at = 0.0
        if file is not None:
            self.look(now=True)

    def names(self) -> frozenset[str]:
        """The keys that there are."""
        return frozenset(self._values) | frozenset(self._from_file)

    def get(self, name: str) -> str | None:
        """The key of this name as it is now."""
        self.look()
        return self._from_file.get(name) or self._values.get(name)

    def look(self, *, now: bool = False) -> None:
        """Read the file again if it is another one than before. What is wrong with it is a problem for all to see; the
        keys of before stay in force."""
        if self._file is None or (self._clock.monotonic() < self._look_at and not now):
            return
        self._look_at = self._clock.monotonic() + LOOK_SECONDS
        try:
            about = self._file.stat()
            mark: tuple[int, ...] = (about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        except OSError:
            mark = ()
        if mark == self._seen:
            return
        try:
            keys = read_keys(self._file, self._known)
        except SettingsError as error:
            self._seen = mark
            self._problems.report(PROBLEM, error.message, error.hint)
            return
        self._learn(keys.values())
        self._from_file, self._seen = keys, mark
        self._problems.clear(PROBLEM)
