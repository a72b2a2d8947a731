"""A whole daemon's front door with the echo agent behind it: what strangers may, and what the agent's death does."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.support.daemon import Daemon, life

TOKEN = "a-long-enough-operator-token"
KNOWN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    variables = {
        "MOLTINIT_BUCKET_URL": f"file://{tmp_path}/bucket",
        "MOLTINIT_OPERATOR_TOKEN": TOKEN,
        "MOLTINIT_PUBLIC_PATHS": "/count",
    }
    async with life(tmp_path / "vm", bucket=variables, MOLTINIT_AGENT="echo") as daemon:
        await daemon.ready()
        yield daemon


async def test_strangers_reach_the_listed_path_and_a_killed_agent_is_waited_for(daemon: Daemon) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(daemon.url + "/count", data=b"x" * 1000) as answer:
            assert await answer.json() == {"bytes": 1000}
        async with session.post(daemon.url + "/count", data=io.BytesIO(b"x" * ((1 << 20) + 1))) as answer:
            assert answer.status == 413
        for path in ("/history", "/count/x", "/", "/_admin/", "/status"):
            async with session.get(daemon.url + path) as answer:
                assert answer.status == 401, path
        async with session.get(daemon.url + "/status", headers=KNOWN) as answer:
            pid = (await answer.json())["agent"]["pid"]
        async with session.ws_connect(daemon.url + "/ws", headers=KNOWN, autoclose=False) as ws:
            await ws.send_str("hello")
            assert await ws.receive_str() == "hello"
            os.kill(pid, signal.SIGKILL)
            message = await ws.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)
        async with session.get(daemon.url + "/", headers={**KNOWN, "Accept": "text/html"}) as answer:
            page = await answer.text()
            # Back already on a fast machine; else a page that waits.
            assert answer.status == 200 or (answer.status == 503 and "One moment" in page)
        await daemon.ready()
        async with session.get(daemon.url + "/history", headers=KNOWN) as answer:
            assert answer.status == 200


async def test_on_sigterm_a_websocket_hears_1012_before_the_daemon_has_sealed(daemon: Daemon) -> None:
    async with aiohttp.ClientSession() as session:
        ws = await session.ws_connect(daemon.url + "/ws", headers=KNOWN, autoclose=False)
        await ws.send_str("hello")
        assert await ws.receive_str() == "hello"
        daemon.signal(signal.SIGTERM)
        message = await ws.receive(timeout=30)
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)
        await ws.close()
    assert await daemon.wait() == 0
