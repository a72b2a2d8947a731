"""The supervisor makes itself hard to look into: before anything of the agent's runs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Iterable, MutableMapping

PR_GET_DUMPABLE, PR_SET_DUMPABLE = 3, 4

_libc = ctypes.CDLL(None, use_errno=True)


def harden(secret_names: Iterable[str], environ: MutableMapping[str, str] = os.environ) -> None:
    """Secrets out of the environment; files for nobody else; no core dump; `/proc/<pid>` for root alone.

    Args:
        secret_names: variables whose values are in the settings by now.
    """
    names = [name for name in secret_names if name in environ]
    _blacken(names)
    for name in names:
        del environ[name]
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError):  # a container may forbid it
            os.setgroups([])  # root needs none, and a thread with the agent's rights must not have root's groups
    # PR_SET_DUMPABLE(2const): no ptrace, no /proc/<pid>/{mem,environ,fd,maps,...} for the same user, no core.
    _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def is_hard() -> bool:
    """Is this process closed to others of its user?"""
    return bool(_libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0)


def _blacken(names: list[str]) -> None:
    """Overwrite the values where the kernel put them at exec: `unsetenv` only forgets where they are
    (proc_pid_stat(5), env_start and env_end)."""
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        start, end = int(fields[47]), int(fields[48])
    except (OSError, ValueError, IndexError):
        return
    if not names or not 0 < start < end:
        return
    block = ctypes.string_at(start, end - start)
    at = 0
    for item in block.split(b"\0"):
        name, equals, value = item.partition(b"=")
        if equals and os.fsdecode(name) in names:
            ctypes.memset(start + at + len(name) + 1, ord("x"), len(value))
        at += len(item) + 1
