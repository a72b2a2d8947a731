import asyncio

import pytest

from supervisor.http import agent_line
from supervisor.http.agent_line import AgentLines, AgentUnreachable, request_head
from tests.unit.http.support import free_port, front_door, until
from tests.unit.http.test_attacks import HOST, POST, RawAgent, running, send, status

KEPT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
POST_ABCD = POST + b"Content-Length: 4\r\n\r\nabcd"


class FickleAgent(RawAgent):
    """Answers once on each connection, and closes it the moment that a second request has come."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = bytearray()
        self.got.append(got)
        try:
            for turn in range(2):
                while not got.endswith((b"\r\n\r\n", b"abcd")) or got.count(b"HTTP/1.1") <= turn:
                    piece = await reader.read(65536)
                    if not piece:
                        return
                    got += piece
                if turn == 0:
                    writer.write(KEPT)
                    await writer.drain()
        finally:
            writer.close()


@pytest.mark.parametrize("request_", [GET, POST_ABCD], ids=["GET", "POST"])
async def test_a_connection_is_used_again_by_the_next_request(request_: bytes) -> None:
    agent = RawAgent(KEPT)
    async with running(agent) as door:
        for _ in range(5):
            assert status(await send(door, request_, until=b"ok")) == 200
    assert len(agent.got) == 1


async def test_a_request_that_may_be_repeated_is_when_its_connection_turns_out_dead() -> None:
    agent = FickleAgent()
    async with running(agent) as door:
        for _ in range(3):
            assert status(await send(door, GET, until=b"ok")) == 200
    assert len(agent.got) == 3


async def test_a_request_that_may_not_be_repeated_never_is() -> None:
    agent = FickleAgent()
    async with running(agent) as door:
        assert status(await send(door, POST_ABCD, until=b"ok")) == 200
        assert status(await send(door, POST_ABCD, until=b"}}")) == 502
    assert agent.text.count(b"abcd") == 2


async def test_a_connection_that_lay_idle_too_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = RawAgent(KEPT)
    monkeypatch.setattr("supervisor.http.proxy.REUSE_SECONDS", 0.0)
    monkeypatch.setattr(agent_line, "REUSE_SECONDS", 0.0)
    async with running(agent) as door:
        for _ in range(3):
            assert status(await send(door, GET, until=b"ok")) == 200
        assert len(door.front._proxy._lines._idle) == 1
    assert len(agent.got) == 3


async def test_a_connection_that_the_agent_closed_meanwhile_is_not_used_again() -> None:
    agent = RawAgent(KEPT)
    async with running(agent) as door:
        assert status(await send(door, POST_ABCD, until=b"ok")) == 200
        await agent.close()
        await until(lambda: not door.front._proxy._lines._idle[0].reusable)
        assert status(await send(door, POST_ABCD, until=b"ok")) == 200
    assert len(agent.got) == 2


async def test_after_an_answer_that_was_not_read_to_its_end_the_connection_is_closed() -> None:
    agent = RawAgent(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    async with running(agent) as door:
        await send(door, GET, until=b"data: 1")
        await until(lambda: all(task.done() for task in agent.serving))
        assert not door.front._proxy._lines._idle


async def test_what_follows_an_answer_unasked_does_not_become_the_next_answer() -> None:
    agent = RawAgent(KEPT + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    async with running(agent) as door:
        for _ in range(3):
            assert b"poison" not in await send(door, GET, until=b"ok")


async def test_an_agent_that_answers_before_it_has_the_body_is_heard() -> None:
    agent = RawAgent(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    async with running(agent) as door:
        answer = await send(door, POST + b"Content-Length: 100000\r\n\r\n", until=b"ok")
    assert status(answer) == 403


async def test_nobody_there_is_told_from_somebody_who_breaks_off() -> None:
    with pytest.raises(AgentUnreachable):
        await AgentLines().open(("127.0.0.1", free_port()))
    async with front_door(("127.0.0.1", free_port())) as door:
        assert status(await send(door, GET, until=b"}}")) == 503


def test_a_head_is_written_as_it_came_and_nothing_in_it_can_end_a_line() -> None:
    head = request_head("GET", "/a%2Fb?x", [("X-A", "caf\udce9"), ("X-B", "b")])
    assert head == b"GET /a%2Fb?x HTTP/1.1\r\nX-A: caf\xe9\r\nX-B: b\r\n\r\n"
    for bad in ("a\r\nX: y", "a\ny", "a\0", "a\x1b"):
        with pytest.raises(ValueError, match="control"):
            request_head("GET", "/", [("X-A", bad)])
