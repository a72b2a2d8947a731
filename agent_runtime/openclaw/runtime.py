"""OpenClaw behind the contract."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from agent_runtime.contract import (
    Activity,
    AgentSettings,
    Caller,
    ConfigureReport,
    DeviceRegistry,
    ExitVerdict,
    LaunchSpec,
    Probe,
    SanitiseReport,
    StateLayout,
    Stillness,
)
from agent_runtime.openclaw import activity, compile_cache
from agent_runtime.openclaw.config import ConfigUnreadable, configure
from agent_runtime.openclaw.devices import GatewayDevices
from agent_runtime.openclaw.healthy import HealthyConfig
from agent_runtime.openclaw.hold import Hold
from agent_runtime.openclaw.identity import IDENTITY_HEADERS, PASSWORD_VARIABLE, introduction
from agent_runtime.openclaw.layout import CONFIG, LAYOUT, SKILLS, STATE, databases
from agent_runtime.openclaw.leases import MOST_SECONDS, NotSanitised, remove_leases
from agent_runtime.openclaw.own_directory import have_own_directory
from agent_runtime.openclaw.program import Program, find_program
from agent_runtime.openclaw.providers import broker_environment
from agent_runtime.openclaw.rpc import Rpc, RpcError
from agent_runtime.probing import HttpProbe

EXIT_CONFIG = 78
"""EX_CONFIG: it cannot start on this config or state; its docs say to run its doctor once and try once more."""

PREPARE_SECONDS = 5.0
"""For `gateway.suspend.prepare`, which takes a quarter of a second when the gateway is idle."""


SANITISE_SECONDS = 30.0
"""For all databases together: how many there are is up to the agent."""


class OpenClaw:
    """See `AgentRuntime`."""

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._probe = HttpProbe("127.0.0.1", settings.port)
        self._program: Program | None = None
        self._history = HealthyConfig(settings.home)

    @property
    def name(self) -> str:
        return "openclaw"

    @property
    def layout(self) -> StateLayout:
        return LAYOUT

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self._settings.port

    @property
    def devices(self) -> DeviceRegistry:
        return GatewayDevices(self._rpc)

    @property
    def identity_headers(self) -> frozenset[str]:
        return IDENTITY_HEADERS

    def introduce(self, caller: Caller) -> Mapping[str, str]:
        return introduction(caller)

    def _find(self) -> Program:
        if self._program is None:
            self._program = find_program(self._settings.program)
        return self._program

    def version(self) -> str:
        return self._find().version()

    def warm_files(self) -> tuple[Path, ...]:
        program = self._find()
        if cache := compile_cache.brought(program):
            return program.node, *compile_cache.loaded_by_a_start(program), cache / "node"
        return program.node, program.package / "dist", self._compile_cache

    @property
    def _compile_cache(self) -> Path:
        return self._settings.scratch / "tmp" / "node-compile-cache"

    def sanitise(self) -> SanitiseReport:
        removed, notes = [], []
        deadline = time.monotonic() + SANITISE_SECONDS
        for database in databases(self._settings.home):
            try:
                count = remove_leases(database, min(MOST_SECONDS, max(0.0, deadline - time.monotonic())))
            except NotSanitised as error:
                notes.append(f"leases in {str(database)!r} are left: {error.message}; {error.hint}")
                continue
            if count:
                removed.append(f"{count} leases in {database.name}")
        lock = self._settings.home / f"{CONFIG}.lock"
        if os.path.lexists(lock):
            try:
                lock.unlink()
                removed.append(lock.name)
            except OSError as error:
                notes.append(f"{lock} is left: {error.strerror}")
        return SanitiseReport(tuple(removed), tuple(notes))

    def configure(self) -> ConfigureReport:
        try:
            return configure(self._settings)
        except ConfigUnreadable:
            kept = self._history.roll_back()
            if kept is None:
                raise
        report = configure(self._settings)
        note = f"{CONFIG} could not be read: the last healthy one is in place, the other is kept as {kept.name}"
        return ConfigureReport(report.changed, (*report.notes, note))

    def launch(self) -> LaunchSpec:
        return self._command("gateway", "run", "--port", str(self._settings.port))

    def repair(self) -> LaunchSpec | None:
        return self._command("doctor", "--fix", "--yes", "--non-interactive")

    def _command(self, *arguments: str) -> LaunchSpec:
        program = self._find()
        uid = os.getuid() if self._settings.uid is None else self._settings.uid
        locks = Path(f"/tmp/openclaw-state-locks-{uid}")  # whatever TMPDIR says
        for directory in (self._settings.home / STATE, self._settings.scratch / "tmp"):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        compile_cache.use(program, self._compile_cache, uid, self._settings.gid)
        return LaunchSpec(
            argv=(str(program.node), str(program.script), *arguments),
            environment=self._environment(program),
            directory=self._settings.home,
            reads=(program.node, program.package.parent, *(place for place in SKILLS if place.is_dir())),
            writes=(locks,) if have_own_directory(locks, uid) else (),
        )

    def _environment(self, program: Program) -> dict[str, str]:
        """Everything the gateway sees. Nothing is inherited: among what is left out are the marks of systemd, which
        would make it believe that systemd restarts it, and every key that is not its own."""
        settings = self._settings
        environment = {
            "HOME": str(settings.home),
            "PATH": os.pathsep.join(
                [
                    str(program.node.parent),
                    "/usr/local/sbin",
                    "/usr/local/bin",
                    "/usr/sbin",
                    "/usr/bin",
                    "/sbin",
                    "/bin",
                ]
            ),
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            # Its compile cache lies in here, worth two seconds of each start. NODE_COMPILE_CACHE would do as well, but
            # makes the launcher start a second Node and stay in between.
            "TMPDIR": str(settings.scratch / "tmp"),
            "OPENCLAW_STATE_DIR": str(settings.home / STATE),
            # Restarts for config changes happen within the process, and an update never spawns a replacement.
            "OPENCLAW_NO_RESPAWN": "1",
            "OPENCLAW_NO_AUTO_UPDATE": "1",
            "OPENCLAW_DISABLE_BONJOUR": "1",
            "OPENCLAW_SERVICE_REPAIR_POLICY": "external",
            **settings.variables,
            **broker_environment(settings.broker),
        }
        if settings.token is not None:
            environment[PASSWORD_VARIABLE] = settings.token
        if zone := os.environ.get("TZ"):
            environment["TZ"] = zone
        return environment

    @property
    def config_history(self) -> HealthyConfig:
        return self._history

    def verdict(self, exit_code: int) -> ExitVerdict:
        if exit_code == 0:
            return ExitVerdict.RESTART
        return ExitVerdict.REPAIR if exit_code == EXIT_CONFIG else ExitVerdict.FAILURE

    async def started(self) -> Probe:
        return await self._probe.ask("/startupz", lambda document: document.get("status") == "started")

    async def live(self) -> Probe:
        return await self._probe.ask("/healthz", lambda document: document.get("status") == "live")

    def quiesce(self, seconds: float) -> AbstractAsyncContextManager[Stillness]:
        return self._quiesced(seconds)

    @asynccontextmanager
    async def _quiesced(self, seconds: float) -> AsyncIterator[Stillness]:
        deadline = asyncio.get_running_loop().time() + seconds
        async with contextlib.AsyncExitStack() as stack:
            suspended = await self._suspended(stack, seconds)
            if suspended is None:
                yield False
                return
            connection, suspension = suspended
            hold = Hold(deadline, lambda: self._resume(connection, suspension))
            try:
                yield hold
            finally:
                await hold.end()

    async def _suspended(self, stack: contextlib.AsyncExitStack, seconds: float) -> tuple[Rpc, str] | None:
        """The connection and the suspension's id; None where the gateway is busy or does not answer."""
        try:
            async with asyncio.timeout(min(PREPARE_SECONDS, seconds)):
                rpc = await stack.enter_async_context(self._rpc())
                answer = await rpc.call("gateway.suspend.prepare", {"requestId": str(uuid.uuid4()), "drain": False})
        except (RpcError, TimeoutError):
            return None
        suspension = answer.get("suspensionId")
        if answer.get("status") != "ready" or not isinstance(suspension, str):
            return None
        return rpc, suspension

    async def _resume(self, rpc: Rpc, suspension: str) -> None:
        try:
            async with asyncio.timeout(PREPARE_SECONDS):
                await rpc.call("gateway.suspend.resume", {"suspensionId": suspension})
        except (RpcError, TimeoutError):
            # The first connection may have gone; if the gateway lives, a second one reaches it. If not, the suspension
            # ends by itself after two minutes, or with the gateway.
            with contextlib.suppress(RpcError, TimeoutError):
                async with asyncio.timeout(PREPARE_SECONDS), self._rpc() as again:
                    await again.call("gateway.suspend.resume", {"suspensionId": suspension})

    async def activity(self) -> Activity | None:
        try:
            async with asyncio.timeout(PREPARE_SECONDS), self._rpc() as rpc:
                return await activity.ask(rpc)
        except (RpcError, TimeoutError):
            return None

    async def drain(self, seconds: float) -> None:
        with contextlib.suppress(RpcError, TimeoutError):
            async with asyncio.timeout(seconds), self._rpc() as rpc:
                request = {"requestId": str(uuid.uuid4()), "drain": True, "terminalPolicy": "terminate"}
                answer = await rpc.call("gateway.suspend.prepare", request)
                if answer.get("status") == "ready":
                    return
                await self._abort_runs(rpc)
                suspension = answer.get("suspensionId")
                while answer.get("status") == "draining" and isinstance(suspension, str):
                    await asyncio.sleep(0.2)
                    answer = await rpc.call("gateway.suspend.status", {"suspensionId": suspension})

    async def _abort_runs(self, rpc: Rpc) -> None:
        """End the turns that are under way: what was said so far is kept, and the next life is told of the rest."""
        for key in await self._sessions(rpc):
            with contextlib.suppress(RpcError):
                await rpc.call("chat.abort", {"sessionKey": key})

    async def _sessions(self, rpc: Rpc) -> list[str]:
        try:
            answer = await rpc.call("sessions.list", {})
        except RpcError:
            # While it drains it may answer nothing but its suspension: the main conversation has a known name.
            return ["agent:main:main"]
        rows: Any = answer.get("sessions")
        keys = [row.get("key") for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        return [key for key in keys if isinstance(key, str)]

    def _rpc(self) -> Rpc:
        return Rpc(f"ws://127.0.0.1:{self._settings.port}/", self._settings.token)

    async def close(self) -> None:
        await self._probe.close()
