"""The process table as /proc shows it, and signals that cannot hit a reused pid.

Source of the fields: proc_pid_stat(5).
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

PF_KTHREAD = 0x00200000
"""Flag of a kernel thread (include/linux/sched.h); in a VM of its own PID 1 sees them in /proc too."""


@dataclass(frozen=True, slots=True)
class Process:
    """One row of the process table; pid and start_ticks (clock ticks since boot) together name it for
    ever."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    start_ticks: int
    kernel: bool = False

    @property
    def alive(self) -> bool:
        """False for a zombie: it waits for its parent only."""
        return self.state not in ("Z", "X")


def read_process(pid: int) -> Process | None:
    """The row of one process, or None where there is none (any more)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
    except OSError:
        return None
    # The name is chosen by the process and may hold blanks and brackets; it ends at the last one.
    fields = line[line.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        state=fields[0].decode("ascii"),
        start_ticks=int(fields[19]),
        kernel=bool(int(fields[6]) & PF_KTHREAD),
    )


def process_table() -> dict[int, Process]:
    """Every process that this one may see, by pid."""
    rows = (read_process(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    return {row.pid: row for row in rows if row is not None}


def own_children() -> list[Process]:
    """The direct children of this process, zombies and adopted orphans included."""
    rows = (read_process(pid) for pid in _own_child_pids())
    return [row for row in rows if row is not None]


def descendants(pid: int, table: Mapping[int, Process]) -> set[int]:
    """The pids of all processes below `pid`, without itself."""
    children: dict[int, list[int]] = defaultdict(list)
    for row in table.values():
        children[row.parent].append(row.pid)
    found: set[int] = set()
    pending = list(children[pid])
    while pending:
        current = pending.pop()
        if current not in found:
            found.add(current)
            pending.extend(children[current])
    return found


def send_signal(process: Process, number: signal.Signals) -> bool:
    """Signal exactly this process; False where it is gone, also when its pid has been given to another."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except OSError:  # a kernel or sandbox without pidfds: the race is small, and there is no better way
        return _kill_by_number(process, number)
    try:
        row = read_process(process.pid)
        if row is None or row.start_ticks != process.start_ticks:
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def _kill_by_number(process: Process, number: signal.Signals) -> bool:
    row = read_process(process.pid)
    if row is None or row.start_ticks != process.start_ticks:
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def _own_child_pids() -> Iterable[int]:
    pids: list[int] = []
    try:
        # One file per thread: a child belongs to the thread that forked it.
        for thread in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError), open(f"/proc/self/task/{thread}/children", "rb") as file:
                pids.extend(int(word) for word in file.read().split())
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        me = os.getpid()
        return [row.pid for row in process_table().values() if row.parent == me]
    return pids
