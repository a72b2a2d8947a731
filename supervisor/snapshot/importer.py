"""Moving in: a bucket that moltworker (or another file-by-file mirror) filled becomes the first snapshot.

The foreign objects are only read. The import runs while there is no repository in the bucket yet, and again from the
start if it was interrupted, since the marker is written only at its end.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from supervisor.concurrency import task_group
from supervisor.errors import RepositoryError
from supervisor.snapshot.descend import Root
from supervisor.snapshot.restore import RestoreFailed
from supervisor.snapshot.tree import checked_path
from supervisor.store.protocol import ObjectInfo, Store

OBJECTS_IN_FLIGHT = 16
MAX_OBJECT_BYTES = 512 << 20

_IMPOSSIBLE = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG)
"""A bucket may hold `a` and `a/b`, and names longer than a file system takes."""


class Source(Protocol):
    """A part of a foreign layout: keys below `prefix` belong below `target`."""

    @property
    def prefix(self) -> str: ...

    @property
    def target(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Imported:
    """What was moved in; `refused` are keys that are no possible file names."""

    files: int
    bytes: int
    prefixes: tuple[str, ...]
    refused: tuple[str, ...] = ()


async def import_foreign(
    store: Store,
    root: Path,
    sources: Sequence[Source],
    *,
    owner: tuple[int, int] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Imported | None:
    """Copy a foreign layout into `root`. Returns None where the bucket holds none. Raises store errors."""
    plan: list[tuple[ObjectInfo, str]] = []
    refused: list[str] = []
    prefixes: list[str] = []
    taken: set[str] = set()
    for source in sources:
        if source.target in taken:
            continue
        objects = [info async for info in store.list(source.prefix)]
        if not objects:
            continue
        taken.add(source.target)
        prefixes.append(source.prefix)
        for info in objects:
            path = _target(info, source)
            if path is None:
                refused.append(info.key)
            elif path:
                plan.append((info, path))
    if not plan:
        return None
    await _download(store, root, plan, refused, owner, progress)
    return Imported(len(plan), sum(info.size for info, _ in plan), tuple(prefixes), tuple(refused))


def _target(info: ObjectInfo, source: Source) -> str | None:
    """Where an object belongs; "" for a directory's placeholder, None for a key that no file can have."""
    name = info.key[len(source.prefix) :]
    if not name or name.endswith("/"):
        return ""
    try:
        return checked_path(f"{source.target}/{name}")
    except ValueError:
        return None


async def _download(
    store: Store,
    root: Path,
    plan: list[tuple[ObjectInfo, str]],
    refused: list[str],
    owner: tuple[int, int] | None,
    progress: Callable[[int, int], None],
) -> None:
    slots = asyncio.Semaphore(OBJECTS_IN_FLIGHT)
    total = sum(info.size for info, _ in plan)
    done = 0
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with Root(root) as place:

        async def one(info: ObjectInfo, path: str) -> None:
            nonlocal done
            async with slots:
                if info.size > MAX_OBJECT_BYTES:
                    raise RepositoryError(
                        f"{info.key} has {info.size} bytes, more than can be imported",
                        hint="move it out of the bucket for the import, and back into the workspace afterwards",
                    )
                data = (await store.get(info.key, limit=info.size)).data if info.size else b""
                # Small writes on the loop's own thread: the shared directory descriptors allow no other.
                try:
                    _write(place, path, data, info.modified, owner)
                except OSError as error:
                    if error.errno not in _IMPOSSIBLE:
                        raise RestoreFailed(
                            f"{info.key} cannot be written to {root}: {error.strerror}",
                            hint="free disk space",
                        ) from error
                    refused.append(info.key)
                done += len(data)
                progress(done, total)

        async with task_group() as group:
            for info, path in plan:
                group.create_task(one(info, path))


def _write(place: Root, path: str, data: bytes, modified: float, owner: tuple[int, int] | None) -> None:
    directories = path.split("/")[:-1]
    for depth in range(1, len(directories) + 1):
        above, name = place.parent("/".join(directories[:depth]))
        try:
            os.mkdir(name, 0o700, dir_fd=above)
        except FileExistsError:
            continue
        if owner:
            os.chown(name, *owner, dir_fd=above, follow_symlinks=False)
    directory, name = place.parent(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if owner:
            os.fchown(fd, *owner)
        os.utime(fd, (modified, modified))
    finally:
        os.close(fd)
