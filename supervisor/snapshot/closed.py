"""Directories that keep their own owner out. Without the right to write (Go's module cache is full of such) nothing in
them can be removed, without the others they cannot even be walked; a restore works with the agent's rights, so the
modes stop it where they would not stop root."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from itertools import count

from supervisor.snapshot.descend import Root
from supervisor.snapshot.format import MAX_DEPTH
from supervisor.snapshot.rules import SkipRules

OWNER = stat.S_IRWXU

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNREAD = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def admit(name: str | os.PathLike[str], directory: int | None = None) -> None:
    """Give the owner all rights on a directory, without following a link there. Somebody else's directory stays as it
    is: whoever wants something in it is told. Raises `OSError` where there is no directory."""
    fd = os.open(name, _UNREAD, dir_fd=directory)
    try:
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        if mode & OWNER != OWNER:
            with contextlib.suppress(PermissionError):
                os.chmod(f"/proc/self/fd/{fd}", mode | OWNER)  # fchmod(2) refuses what was opened without reading
    finally:
        os.close(fd)


def admit_below(root: Root, paths: Iterable[str], rules: SkipRules) -> None:
    """Let the owner into these directories and all that lie in them, as deep as a walk goes; but not into those that
    the rules skip."""
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        directory, name = root.parent(path)
        admit(name, directory)
        try:
            with os.scandir(root.directory(path)) as listing:
                inner = [f"{path}/{entry.name}" for entry in listing if entry.is_dir(follow_symlinks=False)]
        except PermissionError:
            continue  # somebody else's
        if path.count("/") + 1 < MAX_DEPTH:
            waiting += [path for path in inner if not rules.skips(path, is_directory=True)]


def remove_tree(name: str, directory: int) -> None:
    """Remove a directory and all that is in it, whatever the modes. However deep it is, two descriptors and no
    recursion do it: directories are moved up to the top before they are emptied."""
    admit(name, directory)
    top = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        waiting = _remove_files(top)
        taken = set(waiting)
        free = (text for text in map(str, count()) if text not in taken)
        while waiting:
            emptied = waiting.pop()
            fd = os.open(emptied, _DIRECTORY, dir_fd=top)
            try:
                for inner in _remove_files(fd):
                    waiting.append(next(free))
                    os.rename(inner, waiting[-1], src_dir_fd=fd, dst_dir_fd=top)
            finally:
                os.close(fd)
            os.rmdir(emptied, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=directory)


def _remove_files(fd: int) -> list[str]:
    """Remove all but the directories, which are returned, open to their owner: moving one writes its `..`."""
    with os.scandir(fd) as listing:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
    for name, is_directory in entries:
        if is_directory:
            admit(name, fd)
        else:
            os.unlink(name, dir_fd=fd)
    return [name for name, is_directory in entries if is_directory]
