"""The agent's directories: made, given to its user, and within its reach; the supervisor's: closed to it."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.init.cell.user import AgentUser

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

ACL = "system.posix_acl_access"
ACL_VERSION = 2
ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER = 1, 2, 4, 16, 32
NOBODY_ID = 0xFFFFFFFF

MAX_DEPTH = 256
"""Levels of directories that are given; one descriptor is held for each. No snapshot holds what lies deeper, and making
it costs an agent nothing."""


@dataclass(slots=True)
class Given:
    """What became of a tree that was given to the agent: names that changed hands, and files that did not, since
    another name of them lies elsewhere."""

    changed: int = 0
    left: list[str] = field(default_factory=list)


def close_home(home: Path, own: Iterable[Path]) -> None:
    """Nobody but the supervisor looks into its directory; where the agent's lie inside, its user may pass through to
    them. Everything else there is closed to others."""
    passed = {home}
    for path in own:
        if path.is_relative_to(home):
            passed |= {parent for parent in path.parents if parent.is_relative_to(home)}
    for directory in sorted(passed):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(directory, 0o711 if len(passed) > 1 else 0o700)
    kept = {*passed, *own}
    for directory in passed:
        with os.scandir(directory) as listing:
            for entry in listing:
                if Path(entry.path) not in kept and not entry.is_symlink():
                    os.chmod(entry.path, 0o700 if entry.is_dir(follow_symlinks=False) else 0o600)


def give(path: Path, user: AgentUser) -> Given:
    """Make the directory where it is missing, and let everything in it that is root's be the agent's: what an earlier
    version left, or an operator put there. No link is followed; the agent must not be running.

    A file with a second name outside of the tree stays what it is: it may be anybody's. So does what lies deeper than
    `MAX_DEPTH` directories.
    """
    given = Given()
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if user.own:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            linked: dict[tuple[int, int], list[tuple[str, int]]] = {}
            _give_below(fd, (), user, given, linked)
            for names in linked.values():
                if len(names) == names[0][1]:  # every name of it was found in here
                    _give_by_path(fd, names[0][0], user, given)
                else:
                    given.left += [name for name, _ in names]
            if os.fstat(fd).st_uid != user.uid:
                os.fchown(fd, user.uid, user.gid)  # last, so that an interruption is noticed
                given.changed += 1
        finally:
            os.close(fd)
    return given


def _give_below(
    fd: int, above: tuple[str, ...], user: AgentUser, given: Given, linked: dict[tuple[int, int], list[tuple[str, int]]]
) -> None:
    with os.scandir(fd) as listing:
        entries = [(entry.name, entry.stat(follow_symlinks=False)) for entry in listing]
    for name, status in entries:
        if stat.S_ISDIR(status.st_mode) and len(above) < MAX_DEPTH:
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=fd)
            except OSError:
                continue
            try:
                _give_below(inner, (*above, name), user, given, linked)
            finally:
                os.close(inner)
        if status.st_uid != 0:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            linked.setdefault((status.st_dev, status.st_ino), []).append(("/".join((*above, name)), status.st_nlink))
            continue
        os.chown(name, user.uid, user.gid, dir_fd=fd, follow_symlinks=False)
        given.changed += 1


def _give_by_path(fd: int, path: str, user: AgentUser, given: Given) -> None:
    opened = []
    try:
        *directories, name = path.split("/")
        for directory in directories:
            fd = os.open(directory, _DIRECTORY, dir_fd=fd)
            opened.append(fd)
        os.chown(name, user.uid, user.gid, dir_fd=fd, follow_symlinks=False)
        given.changed += 1
    finally:
        for one in opened:
            os.close(one)


class Passage:
    """Lets the agent's user pass through directories that are closed to everybody (a home directory, a test's
    temporary one) on the way to what it needs: by an access list entry that lets this one user search, not list, not
    read. The entry stays (`setfacl -x u:UID DIR` removes it): another daemon of this machine may rely on it."""

    def __init__(self, user: AgentUser) -> None:
        self._user = user
        self._opened: list[Path] = []

    def open(self, path: Path) -> Path | None:
        """None when the agent can reach `path`; else the directory that keeps it from there."""
        if not self._user.own:
            return None
        way = (*reversed(path.absolute().parents), *reversed(Path(os.path.realpath(path)).parents))
        for directory in dict.fromkeys(way):
            if not self._passable(directory) and not self._let_pass(directory):
                return directory
        return None

    @property
    def opened(self) -> tuple[Path, ...]:
        """The directories that were opened."""
        return tuple(self._opened)

    def _passable(self, directory: Path) -> bool:
        status = directory.stat()
        if status.st_uid == self._user.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        entries = _read_acl(directory)
        for tag, bits, who in entries:
            if tag == ACL_USER and who == self._user.uid:
                mask = next((bits for tag, bits, _ in entries if tag == ACL_MASK), 7)
                return bool(bits & mask & 1)
        if status.st_gid == self._user.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)

    def _let_pass(self, directory: Path) -> bool:
        entries = _read_acl(directory)
        if not entries:
            mode = directory.stat().st_mode
            entries = [
                (ACL_USER_OBJ, mode >> 6 & 7, NOBODY_ID),
                (ACL_GROUP_OBJ, mode >> 3 & 7, NOBODY_ID),
                (ACL_OTHER, mode & 7, NOBODY_ID),
            ]
        group = next(bits for tag, bits, _ in entries if tag == ACL_GROUP_OBJ)
        mask = next((bits for tag, bits, _ in entries if tag == ACL_MASK), group)
        kept = [row for row in entries if row[0] != ACL_MASK and not (row[0] == ACL_USER and row[2] == self._user.uid)]
        if mask & 1 == 0 and any(bits & 1 for tag, bits, _ in kept if tag not in (ACL_USER_OBJ, ACL_OTHER)):
            return False  # a wider mask would give others what they do not have now
        rows = [*kept, (ACL_USER, 1, self._user.uid), (ACL_MASK, mask | 1, NOBODY_ID)]
        try:
            os.setxattr(directory, ACL, _write_form(rows))
        except OSError:
            return False
        self._opened.append(directory)
        return True


def _read_acl(path: Path) -> list[tuple[int, int, int]]:
    """(tag, permission bits, id) of each entry (acl(5)); none where there is no list, or no such thing."""
    try:
        data = os.getxattr(path, ACL)
    except OSError:
        return []
    return [(tag, bits, who) for tag, bits, who in struct.iter_unpack("<HHI", data[4:])]


def _write_form(rows: Iterable[tuple[int, int, int]]) -> bytes:
    ordered = sorted(rows, key=lambda row: (row[0], row[2]))
    return struct.pack("<I", ACL_VERSION) + b"".join(struct.pack("<HHI", *row) for row in ordered)


def unreadable(paths: Iterable[Path], user: AgentUser) -> Path | None:
    """The first of these program files that the agent may not read, although it can reach it."""
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
            wanted = 5 if stat.S_ISDIR(status.st_mode) else 4
            if user.own and (status.st_mode >> shift) & wanted != wanted:
                return path
    return None
