"""Opening names below a root without ever following a link: the tree belongs to an untrusted agent, and any name in
it may turn into a link to somewhere else between two system calls."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Root:
    """A directory to work below. Paths are relative, with `/`, and contain no `..` (`tree.checked_path`).

    The descriptor of the directory used last is kept: work in path order opens each directory once.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._near: list[tuple[str, int]] = []

    def close(self) -> None:
        """Give back all descriptors."""
        self._keep(0)
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def parent(self, path: str) -> tuple[int, str]:
        """The open directory that `path` lies in, and its last name. Raises `OSError` (`ELOOP` or `ENOTDIR` where a
        link stands in the way). The descriptor stays the root's."""
        directory, _, name = path.rpartition("/")
        return self.directory(directory), name

    def directory(self, path: str) -> int:
        """The open directory `path` ("" is the root itself)."""
        parts = path.split("/") if path else []
        shared = 0
        for (known, _), part in zip(self._near, parts, strict=False):
            if known != part:
                break
            shared += 1
        self._keep(shared)
        for part in parts[shared:]:
            fd = os.open(part, _DIRECTORY, dir_fd=self._near[-1][1] if self._near else self.fd)
            self._near.append((part, fd))
        return self._near[-1][1] if self._near else self.fd

    def forget(self) -> None:
        """Close what is kept near: after directories were renamed or removed."""
        self._keep(0)

    def _keep(self, depth: int) -> None:
        while len(self._near) > depth:
            os.close(self._near.pop()[1])
