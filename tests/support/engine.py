"""Engines on small trees, several of them on one bucket if need be."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from supervisor.clock import Clock, SystemClock
from supervisor.init.cell.rights import Rights
from supervisor.snapshot.claim import Identity
from supervisor.snapshot.engine import BroughtBack, Engine
from supervisor.snapshot.local import LocalDisk
from supervisor.snapshot.repository import Repository, newest
from supervisor.snapshot.restore import Restorer
from supervisor.snapshot.retention import Retention
from supervisor.snapshot.rules import Classes, SkipRules
from supervisor.store.memory import MemoryStore
from supervisor.store.protocol import Store

_numbers = count(1)


def new_id() -> str:
    """Unique within a test run (in processes forked from it, too), and readable."""
    return f"id{os.getpid() % 10**7:07d}{next(_numbers):07d}"


class Life:
    """One life of the engine on one disk."""

    def __init__(
        self,
        store: Store,
        place: Path,
        *,
        skip: tuple[str, ...] = (),
        first: tuple[str, ...] = (),
        imports: tuple[object, ...] = (),
        clock: Clock | None = None,
        retention: Retention | None = None,
        rights: Rights | None = None,
        scratch: Path | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self.disk = LocalDisk(place / "disk", new_id)
        self.root = place / "home"
        self.engine = Engine(
            repository=Repository(store, clock, new_id),
            store=store,
            disk=self.disk,
            root=self.root,
            rules=SkipRules(skip),
            classes=Classes(first),
            identity=Identity(new_id(), self.disk.id, "host", "echo", "1"),
            clock=clock,
            new_id=new_id,
            retention=retention,
            rights=rights,
            scratch=scratch,
            imports=imports,  # type: ignore[arg-type]
        )

    async def boot(self) -> BroughtBack:
        """Claim and bring the tree back."""
        await self.engine.claim()
        return await self.engine.bring_back()


def memory_store() -> MemoryStore:
    """A bucket of its own."""
    return MemoryStore("memory://test")


async def restore_newest(store: Store, root: Path) -> None:
    """Read the newest snapshot into a directory, without claiming anything."""
    repository = Repository(store, SystemClock(), new_id)
    seen = await repository.read()
    assert seen is not None
    record = newest(seen.head)
    assert record is not None
    loaded = await repository.load(seen.head, record)
    await Restorer(store, root, rules=SkipRules(()), classes=Classes(())).restore(loaded.tree)


def picture(root: Path) -> dict[bytes, tuple[object, ...]]:
    """A tree as it is on disk, for comparing: kinds, modes, times, links, contents, hard links."""
    seen: dict[bytes, tuple[object, ...]] = {}
    inodes: dict[int, bytes] = {}
    base = os.fsencode(root)
    for directory, directories, files in os.walk(base):
        for name in sorted(directories + files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            relative = os.path.relpath(path, base)
            if os.path.islink(path):
                seen[relative] = ("link", os.readlink(path), status.st_mtime_ns)
            elif os.path.isdir(path):
                seen[relative] = ("directory", status.st_mode, status.st_mtime_ns)
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    content = file.read()
                seen[relative] = ("file", status.st_mode, status.st_mtime_ns, content)
                if status.st_nlink > 1:
                    inodes.setdefault(status.st_ino, relative)
                    seen[relative] += (inodes[status.st_ino],)
    return seen
