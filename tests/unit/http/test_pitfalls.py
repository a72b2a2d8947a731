"""Twelve ways in which proxies of WebSockets and HTTP on aiohttp went wrong elsewhere; a test for each, by number."""

import asyncio
import gzip
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from yarl import URL

from supervisor.http.bridge import MAX_MESSAGE_BYTES
from tests.unit.http.support import Door, agent_server, free_port, front_door, until
from tests.unit.http.test_attacks import HOST, POST, RawAgent, running, send, status
from tests.unit.http.test_bridge import open_websocket


@asynccontextmanager
async def behind(app: web.Application) -> AsyncIterator[tuple[Door, aiohttp.ClientSession]]:
    async with (
        agent_server(app) as address,
        front_door(address) as door,
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        yield door, session


class Agent:
    """An agent with one WebSocket handler and what it learned."""

    def __init__(self) -> None:
        self.app = web.Application()
        self.app.router.add_get("/ws", self.talk)
        self.app.router.add_route("*", "/{path:.*}", self.tell)
        self.headers: dict[str, str] = {}
        self.tasks_after: set[str] = set()
        self.closed = asyncio.Event()

    async def talk(self, request: web.Request) -> web.WebSocketResponse:
        self.headers = dict(request.headers)
        ws = web.WebSocketResponse(protocols=("b",), max_msg_size=2 * MAX_MESSAGE_BYTES)
        await ws.prepare(request)
        async for message in ws:
            if message.data == "end":
                await ws.close(code=4002, message=b"enough")
            elif message.type is WSMsgType.BINARY:
                await ws.send_str(str(len(message.data)))
        self.closed.set()
        return ws

    async def tell(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"target": request.raw_path, "headers": [list(pair) for pair in request.headers.items()]}
        )


async def test_01_the_agent_is_connected_before_the_client_is_accepted() -> None:
    async with front_door(("127.0.0.1", free_port())) as door, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(door.url + "/ws")
        assert refused.value.status == 503
    async with behind(Agent().app) as (door, session), session.ws_connect(door.url + "/ws", protocols=("a", "b")) as ws:
        assert ws.protocol == "b"  # the agent's choice, not ours


async def test_02_hop_by_hop_headers_and_the_websockets_own_are_made_anew_on_each_leg() -> None:
    agent = Agent()
    async with behind(agent.app) as (door, session):
        headers = {"Connection": "Upgrade, X-Mine", "X-Mine": "1", "Keep-Alive": "5", "X-Other": "2"}
        async with session.ws_connect(door.url + "/ws", headers=headers, compress=15) as ws:
            assert ws.compress == 0  # what only one leg agreed on is not promised on the other
        assert "X-Mine" not in agent.headers
        assert "Keep-Alive" not in agent.headers
        assert agent.headers["X-Other"] == "2"
        assert agent.headers["Sec-WebSocket-Key"]


async def test_02_an_encoded_body_is_passed_with_its_encoding_and_its_length() -> None:
    squeezed = gzip.compress(b"x" * 10_000)

    async def zipped(_: web.Request) -> web.Response:
        return web.Response(body=squeezed, headers={"Content-Encoding": "gzip"})

    app = web.Application()
    app.router.add_get("/", zipped)
    async with behind(app) as (door, session), session.get(door.url + "/") as answer:
        assert (answer.headers["Content-Encoding"], await answer.read()) == ("gzip", squeezed)
        assert answer.headers["Content-Length"] == str(len(squeezed))


async def test_03_a_message_of_25_mib_passes_on_both_legs() -> None:
    async with behind(Agent().app) as (door, session), session.ws_connect(door.url + "/ws") as ws:
        await ws.send_bytes(b"x" * (25 << 20))
        assert await ws.receive_str() == str(25 << 20)


async def test_04_the_agents_close_code_and_reason_are_the_clients() -> None:
    async with behind(Agent().app) as (door, session), session.ws_connect(door.url + "/ws", autoclose=False) as ws:
        await ws.send_str("end")
        message = await ws.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4002, "enough")


async def test_05_no_pump_is_left_running_when_the_other_has_ended() -> None:
    agent = Agent()
    async with behind(agent.app) as (door, session):
        before = _bridge_tasks()
        async with session.ws_connect(door.url + "/ws") as ws:
            await until(lambda: len(_bridge_tasks()) > len(before))
            await ws.close()
        await asyncio.wait_for(agent.closed.wait(), 5)
        await until(lambda: len(_bridge_tasks()) == len(before))


async def test_06_pings_are_the_other_ends_to_answer_and_each_leg_has_a_heartbeat() -> None:
    # The heartbeats are in test_bridge.py: `..._kept_alive_by_pings_on_both_legs`, `..._answers_no_ping_...`.
    async with behind(Agent().app) as (door, session), session.ws_connect(door.url + "/ws", autoping=False) as ws:
        await ws.ping(b"from afar")
        message = await ws.receive()
        assert (message.type, bytes(message.data)) == (WSMsgType.PONG, b"from afar")


async def test_07_a_download_goes_no_faster_than_the_client_reads() -> None:
    sent = 0

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x" * 65536)
            sent += 65536
        return response

    app = web.Application()
    app.router.add_get("/", flood)
    async with behind(app) as (door, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=65536)
        writer.write(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        last = -1
        while last != sent:
            last = sent
            await asyncio.sleep(0.2)
        assert 0 < sent < 1000 * 65536
        while sent < 1000 * 65536:
            await asyncio.wait_for(reader.read(1 << 20), 5)
        writer.close()


async def test_07_an_upload_goes_no_faster_than_the_agent_reads() -> None:
    go_on = asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        await go_on.wait()
        size = 0
        async for piece in request.content.iter_any():
            size += len(piece)
        return web.Response(text=str(size))

    app = web.Application()
    app.router.add_post("/", slow)
    total, sent = 64 << 20, 0
    async with behind(app) as (door, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % total)
        try:
            while sent < total:
                writer.write(b"x" * 65536)
                sent += 65536
                await asyncio.wait_for(writer.drain(), 0.5)
        except TimeoutError:
            go_on.set()
        assert 0 < sent < total
        while sent < total:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()
        assert (await asyncio.wait_for(reader.read(), 20)).endswith(str(total).encode())
        writer.close()


@pytest.mark.parametrize(
    "target", ["/a%2Fb/%41?q=%20+%2B&x=a%26b", "/v1//x?&&=", "/a?", "/a?b?c", "/%C3%A9?é=1".replace("é", "%C3%A9")]
)
async def test_08_the_target_is_the_clients_byte_for_byte(target: str) -> None:
    agent = RawAgent()
    async with running(agent) as door:
        await send(door, f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), until=b"ok")
    assert agent.text.startswith(f"GET {target} HTTP/1.1\r\n".encode())


async def test_09_what_a_client_says_of_its_origin_and_identity_is_dropped() -> None:
    said = {
        "X-Forwarded-For": "9.9.9.9",
        "X-Real-IP": "9.9.9.9",
        "Forwarded": "for=9.9.9.9",
        "X-Forwarded-User": "root",
    }
    async with behind(Agent().app) as (door, session):
        async with session.get(door.url + "/", headers=said) as answer:
            told = await answer.text()
        assert "9.9.9.9" not in told
        assert "root" not in told
        assert "None" not in told  # the "None, ip" of a header that was not there
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(door.url + "/ws", origin="https://evil.example")
        assert refused.value.status == 403


async def test_10_events_are_passed_at_once_and_no_timeout_ends_a_stream() -> None:
    more = asyncio.Event()

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await more.wait()
        await response.write(b"data: 2\n\n")
        return response

    app = web.Application()
    app.router.add_get("/", events)
    async with behind(app) as (door, session), session.get(door.url + "/") as answer:
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert await answer.content.readany() == b"data: 1\n\n"
        more.set()
        assert await answer.content.read() == b"data: 2\n\n"
    timeout = door.front._proxy._session.timeout  # type: ignore[union-attr]
    assert (timeout.total, timeout.sock_read) == (None, None)


@pytest.mark.parametrize(
    ("method", "head", "length"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"Content-Length: 5"),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n", b"Etag: x"),
    ],
)
async def test_10_an_answer_that_has_no_body_gets_none(method: str, head: bytes, length: bytes) -> None:
    async with running(RawAgent(head)) as door:
        request = f"{method} / HTTP/1.1\r\nHost: localhost\r\n".encode()
        answer = await send(door, request + b"\r\n" + request + b"Connection: close\r\n\r\n")
    # Two answers, one right after the other's head: nothing between them would be taken for a third.
    assert answer.count(b"HTTP/1.1 ") == 2
    first, _, rest = answer.partition(b"\r\n\r\n")
    assert rest.startswith(b"HTTP/1.1 ")
    assert rest.endswith(b"\r\n\r\n")
    assert length in first
    assert b"chunked" not in first


async def test_10_the_limit_of_api_bodies_does_not_bind_what_is_proxied() -> None:
    app = web.Application(client_max_size=64 << 20)

    async def size(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    app.router.add_post("/", size)
    async with (
        behind(app) as (door, session),
        session.post(door.url + "/", data=io.BytesIO(b"x" * (8 << 20))) as answer,
    ):
        assert await answer.text() == str(8 << 20)


async def test_10_continue_is_said_when_the_agent_is_there_and_not_before() -> None:
    agent = RawAgent()
    expecting = POST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    async with running(agent) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(expecting)
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert len(agent.got) == 1
        writer.write(b"abcd")
        assert b" 200 OK" in await asyncio.wait_for(reader.readuntil(b"ok"), 5)
        writer.close()
        door.operations.address = None
        refused = await send(door, expecting)
    assert status(refused) == 503  # at once: a client that is refused has not sent its body
    assert b"Connection: close" in refused


async def test_10_interim_answers_of_the_agent_are_not_taken_for_the_answer() -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    async with running(RawAgent(hints + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as door:
        answer = await send(door, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", until=b"ok")
    assert status(answer) == 200


async def test_11_stopping_closes_websockets_with_1012_before_it_waits_for_anything() -> None:
    async with behind(Agent().app) as (door, session):
        sockets = [await session.ws_connect(door.url + "/ws", autoclose=False) for _ in range(5)]
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(door.front.stop())
            for ws in sockets:
                message = await ws.receive()
                assert (message.type, message.data) == (WSMsgType.CLOSE, 1012)
                await ws.close()
            await stopping
        assert loop.time() - began < 2.5  # not the time that hanging requests would be given


@pytest.mark.parametrize("second", [b"Transfer-Encoding: chunked", b"Content-Length: 5"])
async def test_12_two_framings_are_refused_by_the_parser_that_is_installed(second: bytes) -> None:
    from aiohttp import http_parser

    assert http_parser.HttpRequestParser.__module__ == "aiohttp._http_parser", (
        "the fast parser, whose strictness is tested"
    )
    agent = RawAgent()
    async with running(agent) as door:
        answer = await send(door, POST + b"Content-Length: 4\r\n" + second + b"\r\n\r\n0\r\n\r\n", until=b"}}")
    assert status(answer) == 400
    assert agent.got == []


async def test_a_stalled_websocket_client_holds_up_nobody_else() -> None:
    async with behind(Agent().app) as (door, session):
        _, writer = await open_websocket(door)
        writer.write(bytes([0x82, 0xFF]) + (1 << 20).to_bytes(8, "big") + b"\0\0\0\0")
        async with session.get(URL(door.url + "/x")) as answer:
            assert answer.status == 200
        writer.close()


def _bridge_tasks() -> list[str]:
    names = ("_pump", "_told", "_watch")
    return [name for task in asyncio.all_tasks() if (name := getattr(task.get_coro(), "__name__", "")) in names]
