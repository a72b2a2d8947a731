"""The same programs as PID 1, where the kernel drops signals without a handler and every orphan is ours."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.namespaces import (
    REPOSITORY,
    missing_for_namespaces,
    namespace_members,
    pid_outside,
    start_as_pid1,
)

DRIVER = "tests.support.init_driver"


class Driver:
    """The driver program, what it printed, and its pid as seen from here."""

    def __init__(self, process: subprocess.Popen[str], *, namespace: bool) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.wait_for("installed")
        self.pid = pid_outside(process) if namespace else process.pid

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def wait_for(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        deadline = time.monotonic() + seconds
        while True:
            for line in list(self.lines):
                if match := re.search(pattern, line):
                    return match
            if time.monotonic() > deadline or (self.process.poll() is not None and not self._reader.is_alive()):
                raise AssertionError(f"{pattern!r} was not printed: {self.lines}")
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> int:
        """Its exit code. `unshare` passes on what PID 1 returned."""
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(
    params=[pytest.param("pid1", marks=pytest.mark.root), pytest.param("subreaper", id="subreaper")],
)
def kind(request: pytest.FixtureRequest) -> str:
    kind = str(request.param)
    if kind == "pid1" and (reason := missing_for_namespaces()):
        pytest.skip(reason)
    return kind


@contextmanager
def driver(kind: str, *arguments: str) -> Iterator[Driver]:
    if kind == "pid1":
        process = start_as_pid1(DRIVER, *arguments)
    else:
        process = subprocess.Popen(
            [sys.executable, "-m", DRIVER, *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    started = Driver(process, namespace=kind == "pid1")
    try:
        yield started
    finally:
        started.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGPWR])
def test_a_stop_ends_the_child_and_exits_with_its_code(kind: str, number: signal.Signals) -> None:
    with driver(kind, "trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done") as init:
        init.wait_for("child: up")
        pid = init.wait_for(r"ready (\d+)")[1]
        assert (pid == "1") == (kind == "pid1")
        init.signal(number)
        assert init.end() == 5
        init.wait_for(f"stop requested signal={number.name} urgent=False")


def test_a_stop_before_there_is_an_event_loop_is_not_lost(kind: str) -> None:
    with driver(kind, "--slow-imports") as init:
        init.signal(signal.SIGTERM)
        assert init.end() == 128 + signal.SIGTERM
        assert init.lines.index("stop requested signal=SIGTERM urgent=False") < init.lines.index("stopping")


def test_a_second_stop_is_urgent(kind: str) -> None:
    with driver(kind, "trap '' TERM; echo up; while :; do sleep 0.05; done") as init:
        init.wait_for("child: up")
        init.wait_for("ready")
        init.signal(signal.SIGTERM)
        init.wait_for("stopping")
        time.sleep(0.6)
        started = time.monotonic()
        init.signal(signal.SIGTERM)
        assert init.end() == 128 + signal.SIGKILL
        assert time.monotonic() - started < 10
        init.wait_for("urgent=True")


def test_hup_and_usr1_are_swallowed_and_usr2_takes_a_snapshot(kind: str) -> None:
    script = "trap 'echo got HUP' HUP; trap 'echo got USR1' USR1; echo up; while :; do sleep 0.05; done"
    with driver(kind, script) as init:
        init.wait_for("child: up")
        init.wait_for("ready")
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE, signal.SIGUSR2):
            init.signal(number)
        init.wait_for("signal ignored signal=SIGHUP")
        init.wait_for("signal ignored signal=SIGUSR1")
        init.wait_for("snapshot")
        init.signal(signal.SIGTERM)
        assert init.end() == 128 + signal.SIGTERM
        assert not any("got" in line for line in init.lines)


def test_double_forks_are_reaped_and_own_children_keep_their_codes(kind: str) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do (setsid sleep 0.2 &) ; done; echo up; exec sleep 600"
    with driver(kind, "--own-child", script) as init:
        init.wait_for("own children 41 42")
        init.wait_for("reaped 10 zombies 0")
        init.signal(signal.SIGTERM)
        assert init.end() == 128 + signal.SIGTERM


def test_nothing_is_left_at_the_end(kind: str) -> None:
    stubborn = "setsid sh -c \"trap '' TERM; echo escaped; while :; do sleep 0.05; done\" &"
    with driver(kind, f"{stubborn} (setsid sleep 600 &); echo up; exec sleep 600") as init:
        init.wait_for("escaped")
        init.wait_for("ready")
        members = namespace_members(init.pid) if kind == "pid1" else set()
        if kind == "pid1":
            assert len(members) >= 4
        init.signal(signal.SIGTERM)
        assert init.end() == 128 + signal.SIGTERM
        init.wait_for("strays 0 killed 0 left 0")


@pytest.mark.root
def test_what_others_started_in_the_namespace_ends_with_pid_1() -> None:
    with driver("pid1") as init:
        init.wait_for("ready")
        stranger = subprocess.Popen(
            [
                "nsenter",
                "--pid",
                "--target",
                str(init.pid),
                "sh",
                "-c",
                "trap '' TERM; while :; do sleep 0.1; done",
            ]
        )
        time.sleep(0.3)
        init.signal(signal.SIGTERM)
        assert init.end() == 128 + signal.SIGTERM
        assert stranger.wait(10) != 0
        init.wait_for(r"strays [1-9]\d* killed [1-9]\d* left 0")


def test_a_storm_of_signals_costs_little_and_loses_no_stop(kind: str) -> None:
    with driver(kind, "while :; do (setsid true &); done") as init:
        init.wait_for("ready")
        before = float(init.wait_for(r"cpu ([\d.]+)")[1])
        end = time.monotonic() + 2
        while time.monotonic() < end:
            init.signal(signal.SIGHUP)
            init.signal(signal.SIGCHLD)
            time.sleep(0.001)
        init.signal(signal.SIGTERM)
        assert init.end() == 128 + signal.SIGTERM
        reports = [re.search(r"cpu ([\d.]+)", line) for line in init.lines]
        after = max(float(found[1]) for found in reports if found)
        assert after - before < 1.5
        zombies = [int(found[1]) for line in init.lines if (found := re.search(r"zombies (\d+)", line))]
        assert max(zombies) < 5000
