"""Agents made of shell scripts, for tests of what supervises them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from agent_runtime.contract import (
    Caller,
    ConfigHistory,
    ConfigureReport,
    DeviceRegistry,
    ExitVerdict,
    LaunchSpec,
    Probe,
    RuntimeFault,
    SanitiseReport,
    StateLayout,
)

UP = Probe(True)


def shell(script: str, directory: Path = Path("/"), **environment: str) -> LaunchSpec:
    """A launch of `sh -c`, with nothing in the environment but PATH and what is given."""
    return LaunchSpec(("/bin/sh", "-c", script), {"PATH": os.defpath, **environment}, directory)


@dataclass
class ScriptedAgent:
    """An `AgentRuntime` that runs one script per life, the last one again and again."""

    scripts: list[str]
    repair_script: str | None = None
    verdicts: Mapping[int, ExitVerdict] = field(
        default_factory=lambda: {0: ExitVerdict.RESTART, 78: ExitVerdict.REPAIR}
    )
    start_probe: Probe = UP
    live_probe: Probe = UP
    fault: RuntimeFault | None = None
    drains: list[float] = field(default_factory=list)
    drain_takes: Callable[[], AbstractAsyncContextManager[None]] | None = None
    lives: int = 0
    repairs: int = 0

    name = "scripted"
    layout = StateLayout()
    address = ("127.0.0.1", 1)
    devices: DeviceRegistry | None = None
    config_history: ConfigHistory | None = None
    identity_headers: frozenset[str] = frozenset()

    def introduce(self, caller: Caller) -> Mapping[str, str]:
        return {}

    def version(self) -> str:
        return "1"

    def warm_files(self) -> tuple[Path, ...]:
        return ()

    def sanitise(self) -> SanitiseReport:
        return SanitiseReport()

    def configure(self) -> ConfigureReport:
        return ConfigureReport()

    def launch(self) -> LaunchSpec:
        if self.fault is not None:
            raise self.fault
        script = self.scripts[min(self.lives, len(self.scripts) - 1)]
        self.lives += 1
        return shell(script)

    def repair(self) -> LaunchSpec | None:
        if self.repair_script is None:
            return None
        self.repairs += 1
        return shell(self.repair_script)

    def verdict(self, exit_code: int) -> ExitVerdict:
        return self.verdicts.get(exit_code, ExitVerdict.FAILURE)

    async def started(self) -> Probe:
        return self.start_probe

    async def live(self) -> Probe:
        return self.live_probe

    @asynccontextmanager
    async def quiesce(self, seconds: float) -> AsyncIterator[bool]:
        yield False

    async def drain(self, seconds: float) -> None:
        self.drains.append(seconds)
        if self.drain_takes is not None:
            async with self.drain_takes():
                pass

    async def close(self) -> None:
        pass


async def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for something that other processes bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not happen within {seconds:g} s")
        await asyncio.sleep(0.01)


def running(pid: int) -> bool:
    """Is there such a process, and is it no zombie?"""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False
