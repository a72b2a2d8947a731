import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from supervisor.http.bridge import MAX_MESSAGE_BYTES
from tests.unit.http.support import Door, agent_server, free_port, front_door


class Agent:
    """An agent that echoes, and does what it is told."""

    def __init__(self) -> None:
        self.closed_with: asyncio.Future[tuple[int | None, str | None]] = asyncio.Future()
        self.pinged = asyncio.Event()
        self.offered: str | None = None
        self.headers: dict[str, str] = {}
        self.app = web.Application()
        self.app.router.add_get("/ws", self.talk)
        self.app.router.add_get("/no", self.refuse)

    async def refuse(self, request: web.Request) -> web.Response:
        return web.Response(status=418)

    async def talk(self, request: web.Request) -> web.WebSocketResponse:
        self.offered = request.headers.get("Sec-WebSocket-Protocol")
        self.headers = dict(request.headers)
        ws = web.WebSocketResponse(protocols=("claw.v4",), autoping=False, max_msg_size=2 * MAX_MESSAGE_BYTES)
        await ws.prepare(request)
        async for message in ws:
            await self.answer(request, ws, message)
        if not self.closed_with.done():
            self.closed_with.set_result((ws.close_code, None))
        return ws

    async def answer(self, request: web.Request, ws: web.WebSocketResponse, message: aiohttp.WSMessage) -> None:
        if message.type is WSMsgType.PING:
            self.pinged.set()
            await ws.pong(message.data)
        elif message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
        elif message.data == "close":
            await ws.close(code=4001, message="go away, ü".encode())
        elif message.data == "die":
            assert request.transport is not None
            request.transport.abort()
        elif message.data.startswith("big"):
            await ws.send_bytes(b"x" * int(message.data[3:]))
        else:
            await ws.send_str("echo " + message.data)


@asynccontextmanager
async def running() -> AsyncIterator[tuple[Agent, Door, aiohttp.ClientSession]]:
    agent = Agent()
    async with (
        agent_server(agent.app) as address,
        front_door(address) as door,
        aiohttp.ClientSession() as session,
    ):
        yield agent, door, session


async def test_messages_pass_both_ways_with_the_subprotocol() -> None:
    async with running() as (agent, door, session):
        async with session.ws_connect(door.url + "/ws", protocols=("other", "claw.v4")) as ws:
            assert ws.protocol == "claw.v4"
            await ws.send_str("hällo")
            assert await ws.receive_str() == "echo hällo"
            await ws.send_bytes(b"\x00\xff")
            assert await ws.receive_bytes() == b"\x00\xff"
        assert agent.offered == "other,claw.v4"


async def test_a_message_of_the_gateways_largest_size_passes() -> None:
    async with running() as (_, door, session):
        size = 25 * 1024 * 1024
        async with session.ws_connect(door.url + "/ws", max_msg_size=MAX_MESSAGE_BYTES) as ws:
            await ws.send_str(f"big{size}")
            assert len(await ws.receive_bytes()) == size
            await ws.send_bytes(b"y" * size)
            assert len(await ws.receive_bytes()) == size


async def test_a_message_beyond_the_limit_closes_with_1009() -> None:
    async with (
        running() as (_, door, session),
        session.ws_connect(door.url + "/ws", max_msg_size=0) as ws,
    ):
        await ws.send_str(f"big{MAX_MESSAGE_BYTES + 1}")
        message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1009)


async def test_the_agents_close_code_and_reason_reach_the_client() -> None:
    async with (
        running() as (_, door, session),
        session.ws_connect(door.url + "/ws", autoclose=False) as ws,
    ):
        await ws.send_str("close")
        message = await ws.receive()
        assert (message.data, message.extra) == (4001, "go away, ü")


async def test_the_clients_close_code_reaches_the_agent() -> None:
    async with running() as (agent, door, session):
        async with session.ws_connect(door.url + "/ws") as ws:
            await ws.close(code=4321, message=b"bye")
        assert (await asyncio.wait_for(agent.closed_with, 5))[0] == 4321


async def test_an_agent_that_dies_closes_the_client_with_service_restart() -> None:
    async with running() as (_, door, session), session.ws_connect(door.url + "/ws") as ws:
        await ws.send_str("die")
        message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)


async def test_a_client_that_vanishes_closes_the_agents_side() -> None:
    async with running() as (agent, door, session):
        ws = await session.ws_connect(door.url + "/ws")
        await ws.send_str("x")
        await ws.receive_str()
        ws._response.close()
        code, _ = await asyncio.wait_for(agent.closed_with, 5)
        assert code == 1001


async def test_a_ping_is_answered_by_the_agent_itself() -> None:
    async with (
        running() as (agent, door, session),
        session.ws_connect(door.url + "/ws", autoping=False) as ws,
    ):
        await ws.ping(b"tick")
        message = await ws.receive()
        assert (message.type, bytes(message.data)) == (WSMsgType.PONG, b"tick")
        assert agent.pinged.is_set()


async def test_an_upgrade_from_another_site_is_refused_before_the_agent_sees_it() -> None:
    async with running() as (agent, door, session):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(door.url + "/ws", origin="https://evil.example")
        assert caught.value.status == 403
        assert agent.headers == {}


async def test_host_and_origin_reach_the_agent_and_forwarding_headers_do_not() -> None:
    async with running() as (agent, door, session):
        async with session.ws_connect(door.url + "/ws", origin=door.url, headers={"X-Forwarded-For": "9.9.9.9"}):
            pass
        assert agent.headers["Origin"] == door.url
        assert agent.headers["Host"] == f"127.0.0.1:{door.port}"
        assert "X-Forwarded-For" not in agent.headers


async def test_the_agents_refusal_of_an_upgrade_keeps_its_status() -> None:
    async with running() as (_, door, session):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(door.url + "/no")
        assert caught.value.status == 418


async def test_an_upgrade_without_an_agent_is_503() -> None:
    async with front_door(("127.0.0.1", free_port())) as door, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(door.url + "/ws")
        assert caught.value.status == 503


async def test_stopping_the_front_door_closes_open_sockets_with_service_restart() -> None:
    async with running() as (_, door, session), session.ws_connect(door.url + "/ws") as ws:
        await ws.send_str("x")
        await ws.receive_str()
        async with asyncio.TaskGroup() as group:
            group.create_task(door.front.stop())
            message = await ws.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)
