"""A gateway that belongs to somebody else sends nobody anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from agent_runtime.openclaw.rpc import Rpc, RpcError
from supervisor.straight import straight
from tests.support.daemon import free_port


class Hostile:
    """Redirects every handshake to a place that it must not be able to reach."""

    def __init__(self) -> None:
        self.port = free_port()
        self.reached: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/private":
            self.reached.append(request.path)
            return web.Response()
        raise web.HTTPFound(f"http://127.0.0.1:{self.port}/private")


@pytest.fixture
async def hostile() -> AsyncIterator[Hostile]:
    server = Hostile()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", server.port).start()
    yield server
    await runner.cleanup()


async def test_aiohttp_itself_would_follow(hostile: Hostile) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.ws_connect(f"ws://127.0.0.1:{hostile.port}/")
    assert hostile.reached == ["/private"]


async def test_a_straight_client_follows_no_redirect(hostile: Hostile) -> None:
    async with aiohttp.ClientSession(trace_configs=[straight()]) as session:
        with pytest.raises(aiohttp.ClientError, match="redirect"):
            await session.ws_connect(f"ws://127.0.0.1:{hostile.port}/")
        with pytest.raises(aiohttp.ClientError, match="redirect"):
            await session.get(f"http://127.0.0.1:{hostile.port}/")
    assert hostile.reached == []


async def test_the_gateways_client_follows_no_redirect(hostile: Hostile) -> None:
    with pytest.raises(RpcError):
        async with Rpc(f"ws://127.0.0.1:{hostile.port}/", None):
            pass
    assert hostile.reached == []
