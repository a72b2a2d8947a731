"""A front door with a small agent behind it, both on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from supervisor.errors import UsageError
from supervisor.http.auth import Gatekeeper, gatekeeper
from supervisor.http.early import listen
from supervisor.http.server import FrontDoor

TOKEN = "a-long-enough-operator-token"


@dataclass
class FakeOperations:
    """The daemon as the tests want it to be."""

    address: tuple[str, int] | None = None
    current_phase: str = "serve"
    ready: bool = True
    taken: list[tuple[str, str]] = field(default_factory=list)
    restored: list[int | str] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    committed: int = 0

    def phase(self) -> str:
        return self.current_phase

    def liveness(self) -> dict[str, Any]:
        return {"ok": True}

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        failing = [] if self.ready else [{"code": "agent", "message": "The agent does not answer."}]
        return self.ready, {"ok": self.ready, "failing": failing}

    def startup(self) -> tuple[bool, dict[str, Any]]:
        return self.ready, {"ok": self.ready}

    def status(self) -> dict[str, Any]:
        return {"phase": self.current_phase}

    def metrics(self) -> bytes:
        return b"moltinit_agent_up 1.0\n"

    def gateway(self) -> tuple[str, int] | None:
        return self.address

    def agent_logs(self, after: int, limit: int) -> Sequence[dict[str, Any]]:
        lines = [{"number": number, "text": f"line {number}"} for number in range(1, 11)]
        return [line for line in lines if line["number"] > after][:limit]  # type: ignore[operator]

    async def activity(self) -> dict[str, Any]:
        return {"known": True, "busy": False, "doing": [], "next_wake": None}

    async def snapshots(self) -> list[dict[str, Any]]:
        return [{"sequence": 2}, {"sequence": 1}]

    async def take_snapshot(self, reason: str, *, note: str = "") -> dict[str, Any]:
        self.taken.append((reason, note))
        if note == "slow":
            await self.release.wait()
        self.committed += 1
        return {"sequence": 3}

    async def restore(self, sequence: int | str, *, path: str = "") -> dict[str, Any]:
        if sequence not in (1, 2):
            raise UsageError(f"There is no snapshot {sequence}.", hint="List them.")
        self.restored.append(sequence)
        return {"sequence": sequence}

    async def restart_agent(self) -> dict[str, Any]:
        return {"state": "healthy", "pid": 43, "detail": "", "previous_pid": 42, "seconds": 1.5}


class RecordingLog:
    """Keeps what was logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def debug(self, event: str, **values: Any) -> None:
        self.events.append((event, values))

    info = error = debug


@dataclass
class Door:
    """A running front door."""

    url: str
    host: str
    port: int
    operations: FakeOperations
    log: RecordingLog
    front: FrontDoor


@asynccontextmanager
async def agent_server(app: web.Application) -> AsyncIterator[tuple[str, int]]:
    """Run an agent's HTTP server; yields its address."""
    runner = web.AppRunner(app, shutdown_timeout=0.2, handler_cancellation=True)
    await runner.setup()
    listener = listen("127.0.0.1", 0)
    await web.SockSite(runner, listener).start()
    try:
        yield ("127.0.0.1", listener.getsockname()[1])
    finally:
        await runner.cleanup()


@asynccontextmanager
async def front_door(
    address: tuple[str, int] | None = None,
    *,
    keeper: Gatekeeper | None = None,
    operations: FakeOperations | None = None,
    host: str = "127.0.0.1",
    **options: Any,
) -> AsyncIterator[Door]:
    """Run a front door in mode `none` unless told otherwise."""
    operations = operations or FakeOperations(address)
    log = RecordingLog()
    keeper = keeper or gatekeeper("none", listen_host="127.0.0.1", operator_token=None)
    front = FrontDoor(operations, keeper, log, **options)
    listener = listen(host, 0)
    port = listener.getsockname()[1]
    await front.start(listener)
    try:
        yield Door(f"http://127.0.0.1:{port}", "127.0.0.1", port, operations, log, front)
    finally:
        await front.stop()


def token_keeper(**options: Any) -> Gatekeeper:
    """A gatekeeper in mode `token`."""
    return gatekeeper("token", listen_host="0.0.0.0", operator_token=TOKEN, **options)


def free_port() -> int:
    """A port that nobody listens on, for the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def raw_request(port: int, head: str, body: bytes = b"") -> bytes:
    """Send bytes as they are; returns everything that comes back until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.replace("\n", "\r\n").encode("latin-1") + body)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


async def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells of."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
