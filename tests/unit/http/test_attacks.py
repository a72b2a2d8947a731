"""What somebody up to no good sends, on a raw socket, to the real server with a raw agent behind it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from supervisor.http.sessions import PLAIN_NAME, SECURE_NAME
from tests.unit.http.support import TOKEN, Door, front_door, token_keeper, until

HOST = b"Host: localhost\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
WIKI = b"4\r\nWiki\r\n0\r\n\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class RawAgent:
    """Keeps every byte that arrives, per connection, and answers with whatever it is told to."""

    def __init__(self, answer: bytes = OK) -> None:
        self.answer = answer
        self.delay = 0.0
        self.serving: set[asyncio.Task[None]] = set()
        self.got: list[bytearray] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        got = bytearray()
        self.got.append(got)
        try:
            while piece := await reader.read(65536):
                got += piece
                chunked = b"Transfer-Encoding: chunked" in got
                if got.endswith(b"0\r\n\r\n" if chunked else (b"\r\n\r\n", b"abcd")):
                    await asyncio.sleep(self.delay)
                    writer.write(self.answer)
                    await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def close(self) -> None:
        """End what is still being served."""
        for task in self.serving:
            task.cancel()
        await asyncio.gather(*self.serving, return_exceptions=True)

    @property
    def text(self) -> bytes:
        return b"|".join(bytes(got) for got in self.got)


@asynccontextmanager
async def running(agent: RawAgent, **options: object) -> AsyncIterator[Door]:
    server = await asyncio.start_server(agent.serve, "127.0.0.1", 0)
    try:
        async with front_door(server.sockets[0].getsockname()[:2], **options) as door:  # type: ignore[arg-type]
            yield door
    finally:
        server.close()
        await agent.close()


async def send(door: Door, data: bytes, *, until: bytes = b"") -> bytes:
    """Send bytes; returns what comes back, up to `until` or the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    got = b""
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            while piece := await reader.read(65536):
                got += piece
                if until and until in got:
                    break
    except ConnectionError:
        pass
    finally:
        writer.close()
    return got


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


SMUGGLING = {
    "length and chunked": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two equal lengths": POST + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "two lengths": POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "a list of lengths": POST + b"Content-Length: 4, 4\r\n\r\nabcd",
    "negative length": POST + b"Content-Length: -1\r\n\r\nabcd",
    "signed length": POST + b"Content-Length: +4\r\n\r\nabcd",
    "hexadecimal length": POST + b"Content-Length: 0x4\r\n\r\nabcd",
    "huge length": POST + b"Content-Length: 99999999999999999999999\r\n\r\nabcd",
    "length with underscore": POST + b"Content-Length: 1_0\r\n\r\nabcd",
    "empty length": POST + b"Content-Length:\r\n\r\nabcd",
    "space before the colon of the length": POST + b"Content-Length : 4\r\n\r\nabcd",
    "space before the colon of the coding": POST + b"Transfer-Encoding : chunked\r\n\r\n" + WIKI,
    "tab after chunked": POST + b"Transfer-Encoding: chunked\t\r\n\r\n" + WIKI,
    "vertical tab before chunked": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + WIKI,
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + WIKI,
    "identity": POST + b"Transfer-Encoding: identity\r\nContent-Length: 4\r\n\r\nabcd",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + WIKI,
    "chunked, gzip": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + WIKI,
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + WIKI,
    "identity and chunked": POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n" + WIKI,
    "folded coding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + WIKI,
    "empty coding": POST + b"Transfer-Encoding:\r\n\r\n" + WIKI,
    "empty item before chunked": POST + b"Transfer-Encoding: ,chunked\r\n\r\n" + WIKI,
    "quoted chunked": POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + WIKI,
    "chunked with parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + WIKI,
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + WIKI,
    "folded header": POST + b"X-A: b\r\n c\r\nContent-Length: 4\r\n\r\nabcd",
    "first header indented": b"POST / HTTP/1.1\r\n " + HOST + b"Content-Length: 4\r\n\r\nabcd",
    "bare line feeds": b"POST / HTTP/1.1\nHost: localhost\nContent-Length: 4\n\nabcd",
    "line feed in a header": POST + b"X-A: b\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nabcd",
    "carriage return in a header": POST + b"X-A: b\rTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\nabcd",
    "NUL in a header": POST + b"X-A: b\0c\r\nContent-Length: 4\r\n\r\nabcd",
    "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/11.1": b"GET / HTTP/11.1\r\n" + HOST + b"\r\n",
    "tab for a space": b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT evil:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "TRACE": b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n",
    "upgrade with a body": b"GET / HTTP/1.1\r\n"
    + HOST
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    + KEY
    + b"Content-Length: 4\r\n\r\nabcd",
    "upgrade of another version": b"GET / HTTP/1.1\r\n"
    + HOST
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 6\r\n"
    + KEY
    + b"\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
async def test_a_request_that_can_be_read_in_two_ways_never_reaches_the_agent(name: str) -> None:
    agent = RawAgent()
    async with running(agent) as door:
        answer = await send(door, SMUGGLING[name], until=b"}}")
    assert status(answer) in (400, 501), name
    assert agent.got == []


BAD_CHUNKS = {
    "overflowing size": b"fffffffffffffffff\r\nabc",
    "negative size": b"-4\r\nWiki\r\n0\r\n\r\n",
    "0x size": b"0x4\r\nWiki\r\n0\r\n\r\n",
    "signed size": b"+4\r\nWiki\r\n0\r\n\r\n",
    "space after the size": b"4 \r\nWiki\r\n0\r\n\r\n",
    "line feed in an extension": b"4;a\nb\r\nWiki\r\n0\r\n\r\n",
    "carriage return in an extension": b"4;a\rb\r\nWiki\r\n0\r\n\r\n",
    "bare line feeds": b"4\nWiki\n0\n\n",
    "data longer than its size": b"4\r\nWikiXX\r\n0\r\n\r\n",
    "data shorter than its size": b"4\r\nWi\r\n0\r\n\r\n",
    "a length among the trailers": b"4\r\nWiki\r\n0\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "head first"])
async def test_a_chunked_body_that_is_broken_is_never_ended_for_the_agent(name: str, apart: bool) -> None:
    agent = RawAgent()
    async with running(agent) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(CHUNKED)
        if apart:
            await writer.drain()
            await until(lambda: agent.text)
        writer.write(BAD_CHUNKS[name])
        answer = await asyncio.wait_for(reader.read(4096), 10)
        writer.close()
    assert status(answer) == 400
    assert not agent.text.endswith(b"0\r\n\r\n")


async def test_extensions_and_trailers_of_chunks_end_here() -> None:
    agent = RawAgent()
    async with running(agent) as door:
        body = b"4;ext=" + b"x" * 1000 + b"\r\nWiki\r\n0\r\nX-Identity: admin\r\n\r\n"
        assert status(await send(door, CHUNKED + body, until=b"ok")) == 200
    assert agent.text.endswith(b"\r\n\r\n" + WIKI)


async def test_what_follows_a_body_is_a_request_of_its_own_and_judged_as_one() -> None:
    agent = RawAgent()
    async with running(agent, keeper=token_keeper()) as door:
        allowed = CHUNKED.replace(b"\r\n\r\n", f"\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        second = b"GET /second HTTP/1.1\r\n" + HOST + b"\r\n"
        answer = await send(door, allowed + b"0\r\n\r\n" + second, until=b"unauthorized")
    assert status(answer) == 200
    assert b"HTTP/1.1 401" in answer
    assert b"/second" not in agent.text


@pytest.mark.parametrize("upgrade", [b"h2c", b"tcp", b"websocket, h2c", b"TLS/1.0"])
async def test_an_upgrade_to_anything_else_is_not_passed_on(upgrade: bytes) -> None:
    agent = RawAgent()
    async with running(agent) as door:
        head = b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n"
        await send(door, head + b"Upgrade: " + upgrade + b"\r\n\r\n", until=b"ok")
    assert b"pgrade" not in agent.text
    assert b"HTTP2" not in agent.text


async def test_headers_that_look_like_framing_to_lax_programs_do_not_arrive() -> None:
    agent = RawAgent()
    async with running(agent) as door:
        odd = b"Transfer_Encoding: chunked\r\nContent_Length: 0\r\nProxy_Connection: x\r\nHost_: x\r\n"
        await send(door, POST + odd + b"Content-Length: 4\r\n\r\nabcd", until=b"ok")
    assert agent.text.lower().count(b"encoding") == 0
    assert b"Content_Length" not in agent.text
    assert agent.text.endswith(b"Content-Length: 4\r\n\r\nabcd")


TARGETS = [
    "/_admin/../x",
    "/x/../_admin/",
    "/_admin/..",
    "/%5fadmin/",
    "/%255fadmin/",
    "/_admin%2f",
    "/api%2fadmin%2fsnapshots",
    "//_admin/",
    "/api//admin/snapshots",
    "/_ADMIN/",
    "/API/admin/snapshots",
    "/_admin;x=y/",
    "/;/_admin/",
    "/./_admin/",
    "/%2e/_admin/",
    "/.;/_admin/",
    "/\\_admin/",
    "/x\\..\\_admin/",
    "/_admin%5c",
    "/_admin%00",
    "/\x00_admin",
    "/%c0%af_admin/",
    "/%c0%ae%c0%ae/_admin",
    "/%e0%80%af_admin",
    "http://localhost/_admin/",
    "http://evil.example/",
    "//evil.example/_admin/",
    "/x#/_admin/",
    "#/_admin",
    "/status/",
    "/Status",
    "/metrics;x",
    "/livez%20/..",
    "*",
    "/_admin /x",
    "/\xff",
    "/%",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_path_that_is_written_to_be_misread_is_refused(target: str) -> None:
    agent = RawAgent()
    async with running(agent, keeper=token_keeper()) as door:
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        answer = await send(door, head.encode("latin-1"), until=b"}}")
    assert status(answer) == 400
    assert agent.got == []


@pytest.mark.parametrize(
    "target", ["/_admin", "/_admin/", "/_admin/x%2Fy", "/api/admin/nothing", "/status", "/metrics"]
)
async def test_an_own_path_is_never_the_agents_and_never_a_strangers(target: str) -> None:
    agent = RawAgent()
    async with running(agent, keeper=token_keeper(), public_paths=["/hooks/*"]) as door:
        answer = await send(door, f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(), until=b"}}")
    assert status(answer) == 401
    assert agent.got == []


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://localhost@evil"]
)
@pytest.mark.parametrize("kind", ["POST", "WebSocket"])
async def test_what_another_site_makes_a_browser_send_is_refused(origin: str, kind: str) -> None:
    agent = RawAgent()
    upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" + KEY.decode()
    extra = upgrade if kind == "WebSocket" else "Content-Length: 0\r\n"
    method = "GET" if kind == "WebSocket" else "POST"
    async with running(agent) as door:
        head = f"{method} /ws HTTP/1.1\r\nHost: localhost:{door.port}\r\nOrigin: {origin}\r\n{extra}\r\n"
        answer = await send(door, head.encode(), until=b"}}")
    assert status(answer) == 403
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "cross-site"
    assert agent.got == []


HOSTILE_ANSWERS = {
    "line feed in a header": b"HTTP/1.1 200 OK\r\nX-A: a\nSet-Cookie: stolen=1\r\nContent-Length: 0\r\n\r\n",
    "carriage return in a header": b"HTTP/1.1 200 OK\r\nX-A: a\rSet-Cookie: stolen=1\r\nContent-Length: 0\r\n\r\n",
    "NUL in a header": b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 0\r\n\r\n",
    "escape in a header": b"HTTP/1.1 200 OK\r\nX-A: a\x1b[2J\r\nContent-Length: 0\r\n\r\n",
    "space in a name": b"HTTP/1.1 200 OK\r\nX A: a\r\nContent-Length: 0\r\n\r\n",
    "control in the reason": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nabc",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "an upgrade nobody asked for": b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "endless header": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 100_000 + b"\r\n\r\n",
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"X-A: a\r\n" * 5000 + b"\r\n",
}


@pytest.mark.parametrize("name", HOSTILE_ANSWERS)
async def test_an_answer_that_would_inject_or_confuse_is_502_or_harmless(name: str) -> None:
    agent = RawAgent(HOSTILE_ANSWERS[name])
    async with running(agent) as door:
        answer = await send(door, b"GET / HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
    head = answer.partition(b"\r\n\r\n")[0]
    assert status(answer) in (200, 502)
    assert all(byte >= 0x20 for line in head.split(b"\r\n") for byte in line)
    assert b"X A" not in head
    if name not in ("line feed in a header", "two lengths"):
        assert status(answer) == 502


async def test_the_agent_cannot_touch_the_front_doors_cookies() -> None:
    own = (PLAIN_NAME, SECURE_NAME, "CF_Authorization", "=" + PLAIN_NAME, " = " + SECURE_NAME)
    cookies = "".join(f"Set-Cookie: {name}=x; Path=/\r\n" for name in (*own, "mine")).encode()
    async with running(RawAgent(b"HTTP/1.1 200 OK\r\n" + cookies + b"Content-Length: 2\r\n\r\nok")) as door:
        answer = await send(door, b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", until=b"ok")
    assert answer.count(b"Set-Cookie") == 1
    assert b"mine=x" in answer


async def test_bytes_that_are_no_utf8_pass_in_a_request_and_are_not_lost_in_an_answer() -> None:
    agent = RawAgent(b"HTTP/1.1 200 OK\r\nX-Name: caf\xe9\r\nContent-Length: 2\r\n\r\nok")
    async with running(agent) as door:
        answer = await send(door, b"GET / HTTP/1.1\r\nX-Name: caf\xe9\r\n" + HOST + b"\r\n", until=b"\r\nok")
    assert b"X-Name: caf\xe9\r\n" in agent.text
    assert "X-Name: café\r\n".encode() in answer
