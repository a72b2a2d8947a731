"""Programs as PID 1 of a PID namespace of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def missing_for_namespaces() -> str:
    """What keeps this machine from making a PID namespace; empty where nothing does."""
    if os.geteuid() != 0:
        return "a PID namespace needs root"
    unshare = shutil.which("unshare")
    if unshare is None:
        return "unshare (util-linux) is not installed"
    tried = subprocess.run(
        [unshare, "--pid", "--fork", "--mount-proc", "true"], capture_output=True, text=True, check=False
    )
    return "" if tried.returncode == 0 else f"no PID namespace here: {tried.stderr.strip()}"


def start_as_pid1(module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start `python -m module` as PID 1; its output is a pipe, and it dies with the `unshare` that started
    it.

    `unshare` does not forward signals; see `pid_outside`.
    """
    if reason := missing_for_namespaces():
        pytest.skip(reason)
    return subprocess.Popen(
        [
            "unshare",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            sys.executable,
            "-m",
            module,
            *arguments,
        ],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def pid_outside(unshare: subprocess.Popen[str]) -> int:
    """The pid, seen from here, of the process that is PID 1 in there."""
    path = Path(f"/proc/{unshare.pid}/task/{unshare.pid}/children")
    (child,) = path.read_text(encoding="ascii").split()
    return int(child)


def namespace_members(pid: int) -> set[int]:
    """The pids, seen from here, of all processes in the PID namespace of `pid`."""
    wanted = os.readlink(f"/proc/{pid}/ns/pid")
    members = set()
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                if os.readlink(f"/proc/{name}/ns/pid") == wanted:
                    members.add(int(name))
            except OSError:
                continue
    return members
