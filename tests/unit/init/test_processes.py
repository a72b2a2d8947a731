from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from supervisor.init.processes import (
    Process,
    descendants,
    own_children,
    process_table,
    read_process,
    send_signal,
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        yield process
        process.kill()


def test_a_process_is_read_as_it_is(sleeper: subprocess.Popen[bytes]) -> None:
    row = read_process(sleeper.pid)
    assert row is not None
    assert (row.parent, row.group, row.session) == (os.getpid(), sleeper.pid, sleeper.pid)
    assert row.alive
    assert not row.kernel
    assert process_table()[sleeper.pid].start_ticks == row.start_ticks
    assert sleeper.pid in [child.pid for child in own_children()]


def test_a_name_with_brackets_and_blanks_confuses_nothing() -> None:
    rename = "import ctypes,sys; ctypes.CDLL(None).prctl(15, b') Z 1 (', 0, 0, 0); print(flush=True);"
    rename += " sys.stdin.read()"
    command = [sys.executable, "-S", "-c", rename]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        row = read_process(process.pid)
        assert row is not None
        assert (row.alive, row.parent) == (True, os.getpid())


def test_a_process_that_is_gone_is_none() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert read_process(process.pid) is None


def test_descendants_are_all_below() -> None:
    def row(pid: int, parent: int) -> Process:
        return Process(pid, parent, pid, pid, "S", 1)

    table = {pid: row(pid, parent) for pid, parent in [(1, 0), (2, 1), (3, 2), (4, 3), (5, 1)]}
    assert descendants(2, table) == {3, 4}
    assert descendants(1, table) == {2, 3, 4, 5}
    assert descendants(4, table) == set()


@pytest.mark.parametrize("pidfds", [True, False])
def test_a_reused_pid_is_not_signalled(
    sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, pidfds: bool
) -> None:
    def missing(pid: int) -> int:
        raise OSError("no pidfds")

    if not pidfds:
        monkeypatch.setattr(os, "pidfd_open", missing)
    row = read_process(sleeper.pid)
    assert row is not None
    assert not send_signal(replace(row, start_ticks=row.start_ticks - 1), signal.SIGKILL)
    assert sleeper.poll() is None
    assert send_signal(row, signal.SIGTERM)
    assert sleeper.wait(10) == -signal.SIGTERM
    assert not send_signal(row, signal.SIGTERM)
