from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_runtime.contract import LaunchSpec
from supervisor.errors import AgentError
from supervisor.init.reaper import PR_SET_CHILD_SUBREAPER, Children, Reaper
from supervisor.process.child import Child
from tests.support.agents import running, shell, until


@pytest.fixture(autouse=True)
def subreaper() -> Iterator[None]:
    import ctypes

    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    Reaper(Children()).sweep(patience=0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Output:
    def __init__(self) -> None:
        self.data = b""

    def __call__(self, data: bytes) -> None:
        self.data += data

    @property
    def number(self) -> int:
        return int(self.data.split()[0])


def no_pidfd(pid: int) -> int:
    raise OSError("not here")


def spawn(script: str, output: Output | None = None, *, pidfd: bool = True) -> Child:
    return Child.spawn(
        shell(script),
        output=Output() if output is None else output,
        children=Children(),
        pidfd_open=os.pidfd_open if pidfd else no_pidfd,
    )


@pytest.mark.parametrize("pidfd", [True, False])
@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 78", 78), ("kill -9 $$", -9), ("kill $$", -15)])
async def test_the_exit_code_is_that_of_subprocess(script: str, code: int, pidfd: bool) -> None:
    child = spawn(script, pidfd=pidfd)
    assert await child.wait() == code
    assert child.exit_code == code
    await child.clear()


async def test_output_and_errors_are_read_to_the_end() -> None:
    output = Output()
    child = spawn("echo out; echo err >&2; head -c 300000 /dev/zero", output)
    assert await child.wait() == 0
    await child.clear()
    assert output.data[:8] == b"out\nerr\n"
    assert len(output.data) == 8 + 300_000


async def test_nothing_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SUPERVISOR", "x")
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    output = Output()
    program = "import os,sys; print(sorted(os.environ), os.getcwd(), sys.stdin.read(), os.listdir('/proc/self/fd'),"
    program += " os.getsid(0) == os.getpid())"
    child = Child.spawn(
        LaunchSpec((sys.executable, "-S", "-c", program), {"LC_ALL": "C.UTF-8", "ONE": "1"}, tmp_path),
        output=output,
        children=Children(),
    )
    assert await child.wait() == 0
    await child.clear()
    os.close(read_end)
    os.close(write_end)
    assert output.data.decode().strip() == f"['LC_ALL', 'ONE'] {tmp_path}  ['0', '1', '2', '3'] True"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (LaunchSpec(("/nowhere/agent",), {}, Path("/")), "cannot start /nowhere/agent"),
        (LaunchSpec(("/bin/sh",), {}, Path("/nowhere")), "in /nowhere"),
        (LaunchSpec(("/etc/passwd",), {}, Path("/")), "Permission denied"),
    ],
)
async def test_a_program_that_cannot_be_started_is_an_agent_error(spec: LaunchSpec, reason: str) -> None:
    with pytest.raises(AgentError, match=reason):
        Child.spawn(spec, output=Output(), children=Children())


async def test_stop_asks_first() -> None:
    output = Output()
    child = spawn("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done", output)
    await until(lambda: b"up" in output.data)
    assert await child.stop(10) == 3
    assert output.data == b"up\nbye\n"


@pytest.mark.parametrize("pidfd", [True, False])
async def test_a_child_that_ignores_sigterm_is_killed_after_the_deadline(pidfd: bool) -> None:
    output = Output()
    child = spawn("trap '' TERM; echo up; while :; do sleep 0.05; done", output, pidfd=pidfd)
    await until(lambda: b"up" in output.data)
    started = time.monotonic()
    assert await child.stop(0.3) == -signal.SIGKILL
    assert 0.25 <= time.monotonic() - started < 5


async def test_a_stop_in_a_hurry_does_not_use_its_grace() -> None:
    output = Output()
    child = spawn("trap '' TERM; echo up; while :; do sleep 0.05; done", output)
    await until(lambda: b"up" in output.data)
    hurry = asyncio.Event()
    hurry.set()
    started = time.monotonic()
    assert await child.stop(60, hurry=hurry) == -signal.SIGKILL
    assert time.monotonic() - started < 10


async def test_a_grandchild_that_holds_stdout_open_hangs_nothing() -> None:
    output = Output()
    child = spawn("sleep 60 & echo $!", output)
    assert await asyncio.wait_for(child.wait(), 5) == 0
    await until(lambda: bool(output.data))
    assert running(output.number)
    ended = await asyncio.wait_for(child.clear(), 5)
    assert ended.asked == 1
    assert not running(output.number)


async def test_what_escaped_to_a_session_of_its_own_ends_with_the_child() -> None:
    output = Output()
    child = spawn("setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.05; done' & sleep 60", output)
    await until(lambda: bool(output.data.strip()))
    assert await child.stop(5) == -signal.SIGTERM
    assert not running(output.number)


async def test_a_double_fork_that_outlived_its_parent_ends_with_the_child() -> None:
    output = Output()
    child = spawn("(setsid sh -c 'echo $$; exec sleep 60' &) ; sleep 0.3; exit 4", output)
    assert await child.wait() == 4
    await until(lambda: bool(output.data.strip()))
    assert running(output.number)
    await child.clear()
    assert not running(output.number)


async def test_processes_of_others_are_spared() -> None:
    before = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    await asyncio.sleep(0.05)  # the start of a process is known to a hundredth of a second
    child = spawn("sleep 60")
    beside = await asyncio.create_subprocess_exec("sleep", "60")
    await child.stop(5)
    assert before.returncode is None
    assert beside.returncode is None
    assert running(before.pid)
    assert running(beside.pid)
    for process in (before, beside):
        process.kill()
        await process.wait()


async def test_signals_after_the_end_hit_nobody() -> None:
    child = spawn("exit 0")
    await child.wait()
    child.signal(signal.SIGKILL)
    await child.clear()
    assert await child.stop(1) == 0


async def test_a_registered_child_is_given_back_when_it_has_been_waited_for() -> None:
    children = Children()
    child = Child.spawn(shell("exit 0"), output=Output(), children=children)
    assert child.pid in children
    await child.wait()
    assert child.pid not in children
    await child.clear()


async def test_no_descriptor_is_left_open() -> None:
    await spawn("exit 0").stop(1)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await spawn("sleep 60").stop(1)
    assert len(os.listdir("/proc/self/fd")) == before
