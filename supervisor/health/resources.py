"""What the machine has left: memory as the kernel would account it to us, and the disk that holds the agent's state.

A container's limit lies in its cgroup, and `/proc/meminfo` shows the host's memory there; so the cgroup is asked first
(version 2, then 1), and the machine where no cgroup says anything.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

UNLIMITED = 1 << 60
"""Version 1 writes a number of about 2^63 where there is no limit."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes in use, and how many there are; None where this machine does not tell."""

    used: int
    total: int

    @property
    def free(self) -> int:
        return max(0, self.total - self.used)


@dataclass(frozen=True, slots=True)
class Resources:
    """One look at the machine."""

    memory: Usage | None = None
    disk: Usage | None = None


class Machine:
    """Reads what the kernel says; each look is a handful of small files and one statvfs, well below a millisecond.

    Args:
        state: a directory on the disk that fills up when the agent works.
        root: where `/proc` and `/sys` are; another place in tests.
    """

    def __init__(self, state: Path, *, root: Path = Path("/")) -> None:
        self._state = state
        self._proc = root / "proc"
        self._cgroup = root / "sys/fs/cgroup"

    def look(self) -> Resources:
        """What there is now. Never raises: what cannot be read is None."""
        return Resources(memory=self._memory(), disk=self._disk())

    def _memory(self) -> Usage | None:
        machine = self._machine_memory()
        limited = self._cgroup_memory()
        if limited is None or (machine is not None and limited.total >= machine.total):
            # A cgroup without a limit of its own says less than the machine: what others use counts as well.
            return machine
        return limited

    def _cgroup_memory(self) -> Usage | None:
        for directory, current, limit, inactive in self._cgroup_files():
            used, total = _number(directory / current), _number(directory / limit)
            if used is None or total is None or total >= UNLIMITED:
                continue
            # As `docker stats` and the kubelet count it: page cache that is dropped first is not in use.
            cache = _fields(directory / "memory.stat").get(inactive, 0)
            return Usage(max(0, used - cache), total)
        return None

    def _cgroup_files(self) -> list[tuple[Path, str, str, str]]:
        unified, legacy = _own_groups(self._proc / "self/cgroup")
        second = ("memory.current", "memory.max", "inactive_file")
        first = ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file")
        places = []
        for below in (unified, ""):
            places.append((self._cgroup / below, *second))
        for below in (legacy, ""):
            places.append((self._cgroup / "memory" / below, *first))
        return places

    def _machine_memory(self) -> Usage | None:
        fields = _fields(self._proc / "meminfo")
        total, available = fields.get("MemTotal:"), fields.get("MemAvailable:")
        if total is None or available is None:
            return None
        return Usage((total - available) * 1024, total * 1024)

    def _disk(self) -> Usage | None:
        place = self._state
        while not place.exists() and place != place.parent:
            place = place.parent
        try:
            seen = os.statvfs(place)
        except OSError:
            return None
        # As df(1): what is kept for root is neither used nor free.
        used = (seen.f_blocks - seen.f_bfree) * seen.f_frsize
        return Usage(used, used + seen.f_bavail * seen.f_frsize)


def _own_groups(path: Path) -> tuple[str, str]:
    """This process's group in the unified hierarchy and in that of version 1's memory controller (cgroups(7))."""
    unified = legacy = ""
    for line in _lines(path):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if ".." in group:
            continue
        if number == "0" and not controllers:
            unified = group.lstrip("/")
        elif "memory" in controllers.split(","):
            legacy = group.lstrip("/")
    return unified, legacy


def _fields(path: Path) -> dict[str, int]:
    fields = {}
    for line in _lines(path):
        name, *values = line.split()
        if values and values[0].isdigit():
            fields[name] = int(values[0])
    return fields


def _number(path: Path) -> int | None:
    text = next(iter(_lines(path)), "").strip()
    return int(text) if text.isdigit() else None


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text("ascii", "replace").splitlines() if line.strip()]
    except OSError:
        return []
