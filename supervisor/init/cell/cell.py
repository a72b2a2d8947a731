"""The cell: from a program that is to be launched to the orders for `enter`, and to what came of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_runtime.contract import LaunchSpec
from supervisor.init.cell import enter, paths
from supervisor.init.cell.harden import is_hard
from supervisor.init.cell.measure import Finding, measure
from supervisor.init.cell.user import AgentUser

UMASK = 0o077
OOM_SCORE = 500
"""The kernel, short of memory, takes the agent's largest process long before the supervisor."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the agent's processes (setrlimit(2)); None leaves one as it is.

    Args:
        processes: threads and processes of its user together; only where it has one of its own.
        files: open descriptors of one process.
        file_bytes: the largest file that it may write.
    """

    processes: int | None = 2048
    files: int | None = 65536
    file_bytes: int | None = None


class Cell:
    """Made once; every launch of the agent, and of its repair, goes through it.

    Args:
        own: the agent's directories, which it may write.
        hidden: what it must not see, though it may hold directories of `own`.
        reads, writes: further paths, by the operator's will.
        secrets: values that must not be in the agent's environment.
        reach: sees to it that the agent can read these programs and get to these places; raises `AgentError`.
        observed: told what was found after each launch.
    """

    def __init__(
        self,
        user: AgentUser,
        *,
        own: Sequence[Path],
        hidden: Sequence[Path],
        reads: Sequence[Path] = (),
        writes: Sequence[Path] = (),
        limits: Limits | None = None,
        secrets: Sequence[str] = (),
        reach: Callable[[Sequence[Path], Sequence[Path]], None] = lambda programs, places: None,
        observed: Callable[[Sequence[Finding]], None] = lambda findings: None,
    ) -> None:
        self.user = user
        self._own = tuple(own)
        self._hidden = (*hidden, *(() if user.own else map(Path, paths.PRIVATE)))
        self._reads = tuple(reads)
        self._writes = tuple(writes)
        self._limits = limits or Limits()
        self._secrets = tuple(secrets)
        self._reach = reach
        self._observed = observed

    def command(self, policy_fd: int, report_fd: int) -> tuple[str, ...]:
        """The program that enters the cell and becomes the agent's."""
        return (sys.executable, "-I", "-S", enter.__file__, str(policy_fd), str(report_fd))

    def orders(self, spec: LaunchSpec) -> bytes:
        """What `enter` is to do. There is no secret in it: the environment goes another way. Raises `AgentError`."""
        self._reach([path for path in (*spec.reads, Path(spec.argv[0])) if path.exists()], (spec.directory,))
        switch = self.user.switch
        return json.dumps(
            {
                "argv": list(spec.argv),
                "directory": str(spec.directory),
                "uid": switch[0] if switch else None,
                "gid": switch[1] if switch else None,
                "umask": UMASK,
                "oom_score_adj": OOM_SCORE,
                "limits": self._rlimits(),
                "reads": paths.readable((*spec.reads, *self._reads), self._hidden),
                "writes": paths.writable(
                    self._own, self._writes, self._hidden, paths.owned(spec.writes, self.user.uid)
                ),
            }
        ).encode()

    def _rlimits(self) -> dict[str, int]:
        limits = self._limits
        wanted = {
            "RLIMIT_CORE": 0,
            "RLIMIT_NPROC": limits.processes if self.user.own else None,
            "RLIMIT_NOFILE": limits.files,
            "RLIMIT_FSIZE": limits.file_bytes,
        }
        return {name: value for name, value in wanted.items() if value is not None}

    def look(self, pid: int, spec: LaunchSpec, report: Mapping[str, Any]) -> None:
        """The program runs: find out what holds it in, and tell."""
        self._observed(
            measure(
                pid,
                self.user,
                report,
                environment=spec.environment,
                secrets=self._secrets,
                hard=is_hard(),
                proc=Path("/proc"),
            )
        )


def orders_in_memory(orders: bytes) -> int:
    """A descriptor to read them from: of any length, and nowhere on a disk."""
    fd = os.memfd_create("cell", os.MFD_CLOEXEC)
    os.write(fd, orders)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
