"""Echo behind the contract."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from agent_runtime.contract import (
    Activity,
    AgentSettings,
    Caller,
    ConfigureReport,
    ExitVerdict,
    LaunchSpec,
    Probe,
    SanitiseReport,
    StateLayout,
)
from agent_runtime.probing import HttpProbe

CALLER_HEADER = "x-echo-caller"
_PROGRAM = Path(__file__).with_name("__main__.py")


class Echo:
    """See `AgentRuntime`. It has no config, no repair, and cannot be held still."""

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._probe = HttpProbe("127.0.0.1", settings.port)

    @property
    def name(self) -> str:
        return "echo"

    @property
    def layout(self) -> StateLayout:
        return StateLayout(skip=("/.cache/",), first=("/.echo/",))

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._settings.port

    @property
    def devices(self) -> None:
        return None

    @property
    def identity_headers(self) -> frozenset[str]:
        return frozenset({CALLER_HEADER})

    def introduce(self, caller: Caller) -> Mapping[str, str]:
        return {CALLER_HEADER: caller.name} if caller.name else {}

    def version(self) -> str:
        return "1"

    def warm_files(self) -> tuple[Path, ...]:
        return (_PROGRAM,)

    def sanitise(self) -> SanitiseReport:
        return SanitiseReport()

    def configure(self) -> ConfigureReport:
        self._settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        return ConfigureReport()

    def launch(self) -> LaunchSpec:
        return LaunchSpec(
            # By its path: it needs nothing else of the project, and may not look around there.
            argv=(sys.executable, str(_PROGRAM)),
            environment={
                "HOME": str(self._settings.home),
                "ECHO_PORT": str(self._settings.port),
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "LANG": "C.UTF-8",
            },
            directory=self._settings.home,
            reads=(_PROGRAM.parent, Path(sys.prefix), Path(sys.base_prefix)),
        )

    def repair(self) -> LaunchSpec | None:
        return None

    @property
    def config_history(self) -> None:
        return None

    def verdict(self, exit_code: int) -> ExitVerdict:
        return ExitVerdict.RESTART if exit_code == 0 else ExitVerdict.FAILURE

    async def started(self) -> Probe:
        return await self._probe.ask("/startupz", lambda document: document.get("status") == "started")

    async def live(self) -> Probe:
        return await self.started()

    def quiesce(self, seconds: float) -> AbstractAsyncContextManager[bool]:
        return _cannot()

    async def activity(self) -> Activity | None:
        heard: list[Activity] = []

        def hear(document: dict[str, Any]) -> bool:
            doing = tuple(str(thing) for thing in document["doing"])
            heard.append(Activity(bool(doing), doing, document["next_wake"]))
            return True

        with suppress(KeyError, TypeError):
            await self._probe.ask("/activity", hear)
        return heard[0] if heard else None

    async def drain(self, seconds: float) -> None:
        return None

    async def close(self) -> None:
        await self._probe.close()


@asynccontextmanager
async def _cannot() -> AsyncIterator[bool]:
    yield False
