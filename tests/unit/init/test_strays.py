from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable

import pytest

from supervisor.init.processes import Process, read_process
from supervisor.init.strays import Ended, end, strays

STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"


def rows(*processes: subprocess.Popen[str]) -> Callable[[], list[Process]]:
    def find() -> list[Process]:
        found = [read_process(process.pid) for process in processes]
        return [row for row in found if row is not None and row.alive]

    return find


def start(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(["sh", "-c", f"{script}"], stdout=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    process.stdout.close()
    return process.wait(10)


async def test_where_there_is_nothing_nothing_happens() -> None:
    assert await end(list, reap=list, term_seconds=60, kill_seconds=60) == Ended()


async def test_who_goes_when_asked_is_not_killed() -> None:
    process = start("exec sleep 60")
    assert await end(rows(process), reap=list, term_seconds=10, kill_seconds=10) == Ended(asked=1)
    assert finish(process) == -signal.SIGTERM


async def test_who_does_not_go_is_killed() -> None:
    process = start(STUBBORN)
    assert process.stdout is not None
    process.stdout.readline()
    ended = await end(rows(process), reap=list, term_seconds=0.2, kill_seconds=10)
    assert ended == Ended(asked=1, killed=1)
    assert finish(process) == -signal.SIGKILL


async def test_a_stopped_process_can_go() -> None:
    process = start("kill -STOP $$; sleep 60")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    assert await end(rows(process), reap=list, term_seconds=10, kill_seconds=10) == Ended(asked=1)
    assert finish(process) == -signal.SIGTERM


async def test_who_cannot_be_ended_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: Process, number: signal.Signals) -> bool:
        raise PermissionError

    process = start("exec sleep 60")
    with monkeypatch.context() as patched:
        patched.setattr("supervisor.init.strays.send_signal", refuse)
        ended = await end(rows(process), reap=list, term_seconds=0.1, kill_seconds=0.1)
    assert ended == Ended(left=(process.pid,))
    process.kill()
    finish(process)


def test_a_child_in_our_own_session_is_part_of_this_program_and_no_stray() -> None:
    own = subprocess.Popen(["sleep", "60"])
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        found = {row.pid for row in strays()}
    finally:
        for process in (own, other):
            process.kill()
            process.wait(10)
    assert other.pid in found
    assert own.pid not in found
