"""Slow, huge and numerous clients: bounded, each on a raw socket against the real server."""

import asyncio
import json
import os
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from supervisor.http import bodies, connection, reception, webhooks
from supervisor.http.reception import most_connections
from supervisor.settings.options import public_paths
from tests.unit.http.support import Door, front_door, token_keeper, until
from tests.unit.http.test_attacks import HOST, OK, POST, RawAgent, running, send, status

GET = b"GET / HTTP/1.1\r\n" + HOST


class Client:
    """A connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, until: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(until), 10)

    async def ended(self) -> bytes:
        """What comes until the other side ends it."""
        try:
            return await asyncio.wait_for(self.reader.read(), 10)
        except ConnectionError:
            return b""


@asynccontextmanager
async def client(door: Door) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def test_a_head_that_dribbles_in_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    async with running(RawAgent()) as door, client(door) as slow, asyncio.TaskGroup() as group:
        dribble = group.create_task(_dribble(slow, GET + b"X-A: " + b"a" * 10_000))
        assert await slow.ended() == b""
        dribble.cancel()


async def test_a_second_head_on_a_kept_connection_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = RawAgent(OK.replace(b"Connection: close\r\n", b""))
    async with running(agent) as door, client(door) as slow:
        await slow.say(GET + b"\r\n")
        await slow.hear(b"ok")
        monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
        await slow.say(b"GET /half")
        assert await slow.ended() == b""


async def test_a_connection_that_never_says_anything_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENT_SECONDS", 0.1)
    async with running(RawAgent()) as door, client(door) as silent:
        assert await silent.ended() == b""


async def test_a_head_in_time_is_not_cut_while_its_answer_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(connection, "SILENT_SECONDS", 0.05)
    agent = RawAgent()
    agent.delay = 0.3
    async with running(agent) as door:
        assert status(await send(door, GET + b"\r\n", until=b"ok")) == 200


async def test_a_body_of_which_nothing_more_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "IDLE_SECONDS", 0.1)
    agent = RawAgent()
    async with running(agent) as door:
        answer = await send(door, POST + b"Content-Length: 4\r\n\r\nab", until=b"}}")
    assert status(answer) == 408
    assert agent.text.endswith(b"ab")


async def test_a_client_that_takes_nothing_of_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STALLED_SECONDS", 0.2)
    length = 64 * 1024 * 1024
    agent = RawAgent(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + b"x" * length)
    async with running(agent) as door, client(door) as slow:
        await slow.say(GET + b"\r\n")
        await until(lambda: any(event == "request" for event, _ in door.log.events))
        assert len(await slow.ended()) < length


TOO_LARGE = {
    "request line": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "query": b"GET /?" + b"a" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "header": GET + b"X-A: " + b"a" * 20_000 + b"\r\n\r\n",
    "header name": GET + b"A" * 20_000 + b": a\r\n\r\n",
    "number of headers": GET + b"X-A: a\r\n" * 200 + b"\r\n",
    "headers together": GET + (b"X-A: " + b"a" * 8_000 + b"\r\n") * 10 + b"\r\n",
    "headers without end": GET + (b"X-A: " + b"a" * 1_000 + b"\r\n") * 1_000,
    "empty lines before the request": b"\r\n" * 100_000 + GET + b"\r\n",
}


@pytest.mark.parametrize("name", TOO_LARGE)
async def test_an_oversized_head_is_refused_and_the_connection_closed(name: str) -> None:
    agent = RawAgent()
    async with running(agent) as door:
        answer = await send(door, TOO_LARGE[name], until=b"}}")
        assert status(await send(door, b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n", until=b"}")) == 200
    assert not answer or status(answer) in (400, 431)
    assert agent.got == []


async def test_a_head_just_below_the_limits_passes() -> None:
    agent = RawAgent()
    async with running(agent) as door:
        head = GET + (b"X-A: " + b"a" * 15_000 + b"\r\n") * 4 + b"\r\n"
        assert status(await send(door, head, until=b"ok")) == 200


async def test_when_the_house_is_full_probes_are_answered_and_others_told_to_come_again() -> None:
    agent = RawAgent(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    async with running(agent, max_connections=3) as door, AsyncExitStack() as stack:
        for _ in range(3):
            busy = await stack.enter_async_context(client(door))
            await busy.say(GET + b"\r\n")
            await busy.hear(b"data: 1")
        probe = await send(door, b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (status(probe), json.loads(probe.partition(b"\r\n\r\n")[2])) == (200, {"ok": True})
        door.operations.ready = False
        assert status(await send(door, b"GET /readyz HTTP/1.1\r\n" + HOST + b"\r\n")) == 503
        other = await send(door, GET + b"\r\n")
        assert status(other) == 503
        assert b"Retry-After" in other
        assert b'"busy"' in other


async def test_when_the_house_is_full_those_who_only_wait_make_room() -> None:
    async with running(RawAgent(), max_connections=3) as door, AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(client(door)) for _ in range(3)]
        for each in waiting:
            await each.say(b"GET /slow")
        for _ in range(5):
            assert status(await send(door, GET + b"\r\n", until=b"ok")) == 200
        assert await waiting[0].ended() == b""


async def test_the_doorstep_is_not_held_by_those_who_dawdle_on_it() -> None:
    agent = RawAgent(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    async with running(agent, max_connections=1) as door, AsyncExitStack() as stack:
        busy = await stack.enter_async_context(client(door))
        await busy.say(GET + b"\r\n")
        await busy.hear(b"data: 1")
        for _ in range(reception.DOORSTEP_PLACES * 2):
            await stack.enter_async_context(client(door))
        assert status(await send(door, b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n")) == 200


async def test_a_place_is_free_again_when_its_client_has_gone() -> None:
    async with running(RawAgent(), max_connections=2) as door:
        for _ in range(10):
            assert status(await send(door, GET + b"\r\n", until=b"ok")) == 200


async def test_a_flood_of_connections_leaves_descriptors_to_the_rest_of_the_process() -> None:
    async with running(RawAgent(), max_connections=20) as door, AsyncExitStack() as stack:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(200):
            await stack.enter_async_context(client(door))
        assert status(await send(door, GET + b"\r\n", until=b"ok")) == 200
        clients = 201
        assert len(os.listdir("/proc/self/fd")) - before <= clients + 2 * 20 + reception.DOORSTEP_PLACES


@pytest.mark.parametrize(
    ("soft", "most"), [(256, 48), (1024, 432), (10**6, 1000), (resource.RLIM_INFINITY, 1000), (64, 8)]
)
def test_the_number_of_connections_follows_the_limit_of_descriptors(
    monkeypatch: pytest.MonkeyPatch, soft: int, most: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert most_connections() == most


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_stranger_may_send_a_webhook_of_a_bounded_size_only(chunked: bool) -> None:
    agent = RawAgent()
    size = webhooks.MAX_BODY_BYTES + 1
    head = b"POST /hooks/x HTTP/1.1\r\n" + HOST
    data = (
        head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
        if chunked
        else head + b"Content-Length: %d\r\n\r\n" % size
    )
    async with running(agent, keeper=token_keeper(), public_paths=["/hooks/x"]) as door:
        answer = await send(door, data, until=b"}}")
    assert status(answer) == 413
    assert not agent.text.endswith(b"0\r\n\r\n")


async def test_strangers_together_may_send_so_many_webhooks_and_no_more() -> None:
    now = [100.0]
    keeper = token_keeper()
    async with running(RawAgent(), keeper=keeper, public_paths=["/hooks/x"], monotonic=lambda: now[0]) as door:
        hook = b"GET /hooks/x HTTP/1.1\r\n" + HOST + b"\r\n"
        for _ in range(webhooks.BURST):
            assert status(await send(door, hook, until=b"ok")) == 200
        refused = await send(door, hook, until=b"}}")
        assert (status(refused), b"Retry-After" in refused) == (429, True)
        now[0] += 1
        assert status(await send(door, hook, until=b"ok")) == 200


async def test_a_webhook_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "REQUEST_SECONDS", 0.1)
    agent = RawAgent()
    agent.delay = 60
    async with running(agent, keeper=token_keeper(), public_paths=["/hooks/x"]) as door:
        assert status(await send(door, b"GET /hooks/x HTTP/1.1\r\n" + HOST + b"\r\n", until=b"}}")) == 504
        agent.delay = 0
        agent.answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n"
        endless = await send(door, b"GET /hooks/x HTTP/1.1\r\n" + HOST + b"\r\n")
        # The answer had begun: it breaks off, and no second one stands in its middle.
        assert endless.count(b"HTTP/1.1") == 1
        assert not endless.endswith(b"0\r\n\r\n")


async def test_the_setting_refuses_each_path_that_is_the_front_doors_own() -> None:
    async with front_door(None) as door:
        own = door.front._own
        assert len(own.single) > 5
        for path in (*own.single, *own.trees, *(tree + "/*" for tree in own.trees)):
            with pytest.raises(ValueError, match="front door"):
                public_paths(path)


async def test_a_public_path_takes_no_upgrade() -> None:
    agent = RawAgent()
    async with front_door(None, keeper=token_keeper(), public_paths=["/hooks/x"]) as door:
        head = b"GET /hooks/x HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + HOST + b"\r\n"
        assert status(await send(door, head, until=b"}}")) == 401
    assert agent.got == []


async def _dribble(to: Client, data: bytes) -> None:
    try:
        for byte in data:
            await to.say(bytes([byte]))
            await asyncio.sleep(0.01)
    except ConnectionError:
        pass
