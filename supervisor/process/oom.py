"""Was it the kernel, for want of memory? A SIGKILL alone does not say."""

from __future__ import annotations

from pathlib import Path


def oom_kills(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """How many processes the kernel has killed for want of memory so far; None where it does not say.

    A count that grew during a life tells an OOM kill from a crash. Read from the memory cgroup (v2:
    `memory.events`, v1: `memory.oom_control`); without one, as in a VM of its own, from /proc/vmstat, which
    counts the whole machine.
    """
    for path in (*_cgroup_files(proc, cgroups), proc / "vmstat"):
        try:
            text = path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            continue
        for line in text.splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.isdecimal():
                return int(value)
    return None


def _cgroup_files(proc: Path, cgroups: Path) -> list[Path]:
    try:
        lines = (proc / "self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    files: list[Path] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        below = path.lstrip("/")
        if controllers == "":
            files += [cgroups / below / "memory.events", cgroups / "memory.events"]
        elif "memory" in controllers.split(","):
            # In a container the path may be the host's, while its own group is mounted at the top.
            files += [cgroups / "memory" / below / "memory.oom_control", cgroups / "memory" / "memory.oom_control"]
    return files
