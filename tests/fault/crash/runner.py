"""Runs a scenario in a forked process that dies, or meets an error, at the n-th step that changes the disk.

The bucket is a directory, so its writes are steps like the engine's own. Python's audit hooks see every such call
before it is made (docs.python.org/3/library/audit_events.html).
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.errors import MoltinitError
from tests.fault.crash.scenarios import ACKNOWLEDGED, SCENARIOS, Scenario, check

STEPS = frozenset(
    {
        "os.rename",
        "os.remove",
        "os.mkdir",
        "os.rmdir",
        "os.link",
        "os.symlink",
        "os.chmod",
        "os.utime",
        "os.truncate",
        "sqlite3.connect",
    }
)
FAULTS = {"kill": 0, "disk full": errno.ENOSPC, "I/O error": errno.EIO}


@dataclass
class _Hook:
    at: int = -1
    fault: int = 0
    count: int = 0
    armed: bool = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed or not (event in STEPS or (event == "open" and _writes(arguments))):
            return
        self.count += 1
        if self.count != self.at:
            return
        if self.fault:
            self.armed = False
            raise OSError(self.fault, os.strerror(self.fault))
        os.kill(os.getpid(), signal.SIGKILL)


def _writes(arguments: tuple[Any, ...]) -> bool:
    flags = arguments[2] if len(arguments) > 2 else 0
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def steps(scenario: Scenario, place: Path) -> int:
    """How many steps it has when nothing goes wrong; they are a few more or less from run to run."""
    prepare(scenario, place)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(scenario, place, _Hook(), writer)
    os.close(writer)
    count = int(os.read(reader, 64))
    os.close(reader)
    os.waitpid(pid, 0)
    return count


def prepare(scenario: Scenario, place: Path) -> None:
    """In a process of its own, so that this one starts no thread and can fork."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    pid = os.fork()
    if pid == 0:
        asyncio.run(scenario.prepare(place))
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"{scenario.name} could not be prepared"


def suffer(scenario: Scenario, place: Path, fault: str, at: int) -> None:
    """One death (or one error, after which it is tried again), and the check."""
    prepare(scenario, place)
    pid = os.fork()
    if pid == 0:
        _child(scenario, place, _Hook(at=at, fault=FAULTS[fault]))
    os.waitpid(pid, 0)
    checker = os.fork()
    if checker == 0:
        code = 1
        try:
            asyncio.run(check(scenario, place))
            code = 0
        except BaseException as error:
            print(f"{scenario.name}, {fault} at step {at}: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(checker, 0)
    assert status == 0, f"{scenario.name}: {fault} at step {at} is not survived"


def _child(scenario: Scenario, place: Path, hook: _Hook, tell: int | None = None) -> None:
    sys.addaudithook(hook)
    hook.armed = True

    async def act() -> None:
        try:
            await scenario.act(place)
        except (MoltinitError, OSError):
            if not hook.fault:
                raise
            await scenario.act(place)  # as the life cycle does: the fault is over, the next attempt must work

    code = 1
    try:
        asyncio.run(act())
        hook.armed = False
        (place / ACKNOWLEDGED).touch()
        code = 0
    finally:
        if tell is not None:
            os.write(tell, str(hook.count).encode())
        os._exit(code)


def main() -> None:
    """The whole matrix: `python -m tests.fault.crash.runner [EVERY [SCENARIO ...]]`, every step or every n-th."""
    every = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    wanted = sys.argv[2:] or list(SCENARIOS)
    place = Path(os.environ.get("TMPDIR", "/tmp")) / f"moltinit-crash-{os.getpid()}"
    failed = total = 0
    try:
        for scenario in map(SCENARIOS.__getitem__, wanted):
            count = steps(scenario, place)
            for fault in FAULTS:
                for at in range(1, count + 1, every):
                    total += 1
                    try:
                        suffer(scenario, place, fault, at)
                    except AssertionError as error:
                        failed += 1
                        print(error)
                print(f"{scenario.name}: {fault} at {len(range(1, count + 1, every))} of {count} steps", flush=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print(f"{total} deaths and errors, {failed} not survived")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
