"""Many WebSockets, and bodies of any size, through a whole daemon in bounded memory.

A slice by default; `make load-proxy` runs 200 clients and 1 GiB (`MOLTINIT_LOAD_CLIENTS`, `MOLTINIT_LOAD_MIB`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support.daemon import Daemon, life

MIB = 1 << 20
CLIENTS = int(os.environ.get("MOLTINIT_LOAD_CLIENTS", "20"))
SIZE = int(os.environ.get("MOLTINIT_LOAD_MIB", "64")) * MIB
BODY_ROOM = 16 * MIB
"""What the daemon may grow by while a body of any size passes: its buffers, and what else a daemon does meanwhile."""
CLIENT_ROOM = 256 * 1024
"""And by client."""


class Memory:
    """The most that a process has had resident since the watch began, in bytes."""

    def __init__(self, pid: int) -> None:
        self._path = f"/proc/{pid}/status"
        self.before = self.most = self._resident()

    @property
    def grown(self) -> int:
        return self.most - self.before

    def _resident(self) -> int:
        with open(self._path, encoding="ascii", errors="replace") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS:"))

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.most = max(self.most, self._resident())
            await asyncio.sleep(0.05)


@asynccontextmanager
async def watched(daemon: Daemon) -> AsyncIterator[Memory]:
    memory = Memory(daemon.pid)
    watch = asyncio.create_task(memory.watch())
    try:
        yield memory
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        print(f"resident: {memory.before / MIB:.1f} MiB before, {memory.most / MIB:.1f} MiB at most")


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    bucket = {"MOLTINIT_BUCKET_URL": f"file://{tmp_path}/bucket"}
    async with life(tmp_path / "vm", bucket=bucket, MOLTINIT_AGENT="echo") as daemon:
        await daemon.ready()
        await daemon.saved()
        yield daemon


@pytest.mark.timeout(600)
async def test_many_clients_talk_at_once_and_each_hears_its_own_words(daemon: Daemon) -> None:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        memory = await stack.enter_async_context(watched(daemon))
        sockets = [
            await stack.enter_async_context(session.ws_connect(daemon.url + "/ws", max_msg_size=0))
            for _ in range(CLIENTS)
        ]

        async def talk(number: int, ws: aiohttp.ClientWebSocketResponse) -> None:
            for turn in range(20):
                words = f"{number}/{turn} " + "x" * 4096
                await ws.send_str(words)
                assert await ws.receive_str(timeout=60) == words

        async with asyncio.TaskGroup() as group:
            for number, ws in enumerate(sockets):
                group.create_task(talk(number, ws))
        status, _ = await daemon.get("/livez")
        assert status == 200
    assert memory.grown < BODY_ROOM + CLIENTS * CLIENT_ROOM


@pytest.mark.timeout(600)
async def test_an_upload_of_any_size_passes_in_bounded_memory(daemon: Daemon) -> None:
    piece = b"x" * (256 * 1024)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(SIZE // len(piece)):
            yield piece

    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        watched(daemon) as memory,
        session.post(daemon.url + "/count", data=body()) as answer,
    ):
        assert await answer.json() == {"bytes": SIZE}
    assert memory.grown < BODY_ROOM


@pytest.mark.timeout(600)
async def test_a_download_of_any_size_passes_in_bounded_memory_also_to_a_slow_client(daemon: Daemon) -> None:
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        watched(daemon) as memory,
        session.get(f"{daemon.url}/bytes/{SIZE}") as answer,
    ):
        await asyncio.sleep(1.0)  # whoever collects without being asked has collected by now
        received = 0
        async for piece in answer.content.iter_any():
            received += len(piece)
        assert received == SIZE
    assert memory.grown < BODY_ROOM


@pytest.mark.timeout(600)
async def test_clients_that_read_nothing_cost_a_bounded_part_of_memory_each(daemon: Daemon) -> None:
    clients = max(5, CLIENTS // 4)
    async with watched(daemon) as memory, AsyncExitStack() as stack:
        for _ in range(clients):
            _, writer = await asyncio.open_connection("127.0.0.1", daemon.port, limit=1024)
            stack.callback(writer.close)
            writer.write(f"GET /bytes/{SIZE} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await asyncio.sleep(2.0)
    assert memory.grown < BODY_ROOM + clients * MIB
