"""Working on the agent's files with the agent's rights, in a thread of the supervisor.

Whatever is planted in the agent's tree, a link to the supervisor's keys above all, is opened as the agent would open
it. Linux keeps the ids for file access for each thread (setfsuid(2)); while that of the user is not 0, the
capabilities that overrule file modes are gone from the thread's effective set (capabilities(7)).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_libc = ctypes.CDLL(None, use_errno=True)

UNCHANGED = 0xFFFFFFFF
"""An id that nobody has: asking for it changes nothing, and the answer is the id in force."""


class Rights:
    """Whose rights a thread uses for files; `ids` None leaves them as they are."""

    def __init__(self, ids: tuple[int, int] | None = None) -> None:
        self._ids = ids

    @property
    def ids(self) -> tuple[int, int] | None:
        """User and group."""
        return self._ids

    def take(self) -> None:
        """For as long as this thread lives: the initializer of a pool that does nothing else. Raises
        `PermissionError`."""
        if self._ids is not None:
            _switch(*self._ids)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """For a while, in a function that never waits in between: another task of the same thread would have these
        rights, too."""
        if self._ids is None:
            yield
            return
        before = _libc.setfsuid(UNCHANGED) & UNCHANGED, _libc.setfsgid(UNCHANGED) & UNCHANGED
        self.take()
        try:
            yield
        finally:
            _libc.setfsuid(before[0])
            _libc.setfsgid(before[1])


def _switch(uid: int, gid: int) -> None:
    # Neither call reports an error: asking again is the only way to know.
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    now = _libc.setfsuid(UNCHANGED) & UNCHANGED, _libc.setfsgid(UNCHANGED) & UNCHANGED
    if now != (uid, gid):
        _libc.setfsuid(0)
        _libc.setfsgid(0)
        raise PermissionError(f"this thread cannot use the rights of user {uid}, group {gid}")
