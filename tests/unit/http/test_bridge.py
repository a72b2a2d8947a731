import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from supervisor.http.bridge import MAX_MESSAGE_BYTES, Patience
from tests.unit.http.support import Door, agent_server, free_port, front_door


class Agent:
    """An agent that echoes, and does what it is told."""

    def __init__(self) -> None:
        self.closed_with: asyncio.Future[tuple[int | None, str | None]] = asyncio.Future()
        self.pinged = asyncio.Event()
        self.ponged: list[bytes] = []
        self.deaf = False
        self.hold = asyncio.Event()
        self.hold.set()
        self.flood, self.sent = 2000, 0
        self.target = ""
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
        self.target = request.raw_path
        ws = web.WebSocketResponse(protocols=("claw.v4",), autoping=False, max_msg_size=2 * MAX_MESSAGE_BYTES)
        await ws.prepare(request)
        async for message in ws:
            await self.hold.wait()
            await self.answer(request, ws, message)
        if not self.closed_with.done():
            self.closed_with.set_result((ws.close_code, None))
        return ws

    async def answer(self, request: web.Request, ws: web.WebSocketResponse, message: aiohttp.WSMessage) -> None:
        if message.type is WSMsgType.PING:
            self.pinged.set()
            if not self.deaf:
                await ws.pong(message.data)
        elif message.type is WSMsgType.PONG:
            self.ponged.append(bytes(message.data))
        elif message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
        elif message.data == "close":
            await ws.close(code=4001, message="go away, ü".encode())
        elif message.data == "die":
            assert request.transport is not None
            request.transport.abort()
        elif message.data == "flood":
            for _ in range(self.flood):
                await ws.send_bytes(b"x" * 65536)
                self.sent += 1
        elif message.data.startswith("big"):
            await ws.send_bytes(b"x" * int(message.data[3:]))
        else:
            await ws.send_str("echo " + message.data)


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[tuple[Agent, Door, aiohttp.ClientSession]]:
    agent = Agent()
    async with (
        agent_server(agent.app) as address,
        front_door(address, **options) as door,
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


QUICK = Patience(ping=0.05, dead=0.15)


async def test_a_quiet_socket_is_kept_alive_by_pings_on_both_legs() -> None:
    async with running(patience=QUICK) as (agent, door, session):
        async with session.ws_connect(door.url + "/ws", autoping=False) as ws:
            ping = await ws.receive()
            assert ping.type is WSMsgType.PING
            await ws.pong(ping.data)
            await asyncio.wait_for(agent.pinged.wait(), 5)
            # The answer is for the front door, not for the agent; and nobody is given up meanwhile.
            for _ in range(10):
                message = await ws.receive()
                assert message.type is WSMsgType.PING
                await ws.pong(message.data)
            await ws.send_str("still here")
            while (message := await ws.receive()).type is WSMsgType.PING:
                await ws.pong(message.data)
            assert message.data == "echo still here"
        assert agent.ponged == []


async def test_a_client_that_answers_no_ping_is_given_up_and_the_agent_told() -> None:
    async with (
        running(patience=QUICK) as (agent, door, session),
        session.ws_connect(door.url + "/ws", autoping=False, autoclose=False) as ws,
    ):
        code, _ = await asyncio.wait_for(agent.closed_with, 5)
        assert code == 1001
        while (message := await ws.receive()).type is WSMsgType.PING:
            pass
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)


async def test_an_agent_that_answers_no_ping_is_given_up_and_the_client_told() -> None:
    async with running(patience=QUICK) as (agent, door, session):
        agent.deaf = True
        async with session.ws_connect(door.url + "/ws", autoclose=False) as ws:
            message = await ws.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)


async def test_a_client_in_the_middle_of_a_long_message_is_not_taken_for_dead() -> None:
    async with running(patience=QUICK) as (_, door, _session):
        reader, writer = await open_websocket(door)
        payload = b"slowly, but surely"
        writer.write(bytes([0x81, 0x80 | len(payload)]) + b"\0\0\0\0")
        for byte in payload:
            await asyncio.sleep(0.03)
            writer.write(bytes([byte]))
        got = b""
        while b"echo " not in got:
            got += await asyncio.wait_for(reader.read(1024), 5)
        assert payload in got
        writer.close()


async def test_an_agent_that_sends_faster_than_the_client_takes_is_held_back() -> None:
    async with running() as (agent, door, _session):
        reader, writer = await open_websocket(door)
        command = b"flood"
        writer.write(bytes([0x81, 0x80 | len(command)]) + b"\0\0\0\0" + command)
        sent = -1
        while sent != agent.sent:
            sent = agent.sent
            await asyncio.sleep(0.2)
        # All of it is in the kernel's buffers and a bounded number of messages; the agent has more to say.
        assert 0 < sent < agent.flood
        while agent.sent < agent.flood:
            await asyncio.wait_for(reader.read(1 << 20), 5)
        writer.close()


async def test_a_client_that_sends_faster_than_the_agent_takes_is_held_back() -> None:
    async with running() as (agent, door, _session):
        agent.hold.clear()
        _, writer = await open_websocket(door)
        size, most, sent = 1 << 16, 2000, 0
        frame = bytes([0x82, 0x80 | 126]) + (size - 1).to_bytes(2, "big") + b"\0\0\0\0" + b"x" * (size - 1)
        try:
            for sent in range(most):  # noqa: B007
                writer.write(frame)
                await asyncio.wait_for(writer.drain(), 0.5)
        except TimeoutError:
            pass
        assert 0 < sent < most - 1
        agent.hold.set()
        await asyncio.wait_for(writer.drain(), 10)
        writer.transport.abort()


async def test_a_flood_of_pings_ends_the_conversation() -> None:
    async with running() as (agent, door, _session):
        reader, writer = await open_websocket(door)
        writer.write((bytes([0x89, 0x80]) + b"\0\0\0\0") * (Patience().controls + 1))
        answer = await asyncio.wait_for(reader.read(), 5)
        assert close_code(answer) == 1008
        assert (await asyncio.wait_for(agent.closed_with, 5))[0] == 1008
        writer.close()


async def test_a_flood_of_fragments_leaves_room_for_others_and_ends_at_the_limit() -> None:
    async with running() as (agent, door, session):
        _, writer = await open_websocket(door)
        first = bytes([0x02, 0x80]) + b"\0\0\0\0"
        fragment = bytes([0x00, 0x80 | 125]) + b"\0\0\0\0" + b"x" * 125
        writer.write(first)

        async def flood() -> None:
            try:
                for _ in range(MAX_MESSAGE_BYTES // 125 // 1000 + 2):
                    writer.write(fragment * 1000)
                    await writer.drain()
            except ConnectionError:
                pass

        async with asyncio.TaskGroup() as group:
            flooding = group.create_task(flood())
            while not flooding.done():
                async with session.get(door.url + "/livez") as answer:
                    assert answer.status == 200
        # The flooder may see a reset instead of the code, and then counts as gone: it was still sending.
        assert (await asyncio.wait_for(agent.closed_with, 5))[0] in (1001, 1009)
        writer.close()


async def test_a_frame_that_claims_to_be_huge_is_refused_before_it_comes() -> None:
    async with running() as (_, door, _session):
        reader, writer = await open_websocket(door)
        writer.write(bytes([0x82, 0xFF]) + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0")
        assert close_code(await asyncio.wait_for(reader.read(), 5)) == 1009
        writer.close()


@pytest.mark.parametrize(
    "frame",
    [
        b"\xf2\x80\0\0\0\0",  # reserved bits
        b"\x83\x80\0\0\0\0",  # an unknown opcode
        b"\x80\x80\0\0\0\0",  # a continuation of nothing
        b"\x09\x80\0\0\0\0",  # a ping in fragments
        b"\x89\xfe\x00\x7e\0\0\0\0",  # a ping that is too long
        b"\x88\x81\0\0\0\0x",  # half a close code
        b"\x88\x82\0\0\0\0\x00\x05",  # a close code that does not exist
    ],
)
async def test_what_breaks_the_protocol_closes_with_1002_and_never_arrives(frame: bytes) -> None:
    async with running() as (agent, door, _session):
        reader, writer = await open_websocket(door)
        writer.write(frame)
        assert close_code(await asyncio.wait_for(reader.read(), 5)) == 1002
        assert (await asyncio.wait_for(agent.closed_with, 5))[0] == 1001
        writer.close()


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [(None, 1000), (1000, 1000), (1001, 1001), (1006, 1001), (1011, 1011), (3000, 3000), (4999, 4999), (5000, 1001)],
)
async def test_a_close_code_arrives_or_is_mapped_to_one_that_may_be_sent(sent: int | None, arrives: int) -> None:
    async with running() as (agent, door, _session):
        _, writer = await open_websocket(door)
        payload = b"" if sent is None else sent.to_bytes(2, "big")
        writer.write(bytes([0x88, 0x80 | len(payload)]) + b"\0\0\0\0" + payload)
        assert (await asyncio.wait_for(agent.closed_with, 5))[0] == arrives
        writer.close()


async def test_the_agents_target_is_the_clients_byte_for_byte() -> None:
    async with running() as (agent, door, _session):
        _, writer = await open_websocket(door, "/ws?a=%41+b&c=%2F%2f&d")
        assert agent.target == "/ws?a=%41+b&c=%2F%2f&d"
        writer.close()


async def open_websocket(door: Door, target: str = "/ws") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    writer.write(f"{head}Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode())
    assert b" 101 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    return reader, writer


def close_code(frames: bytes) -> int:
    """The code of the close frame at the end."""
    begin = frames.rindex(b"\x88")
    return int.from_bytes(frames[begin + 2 : begin + 4], "big")
