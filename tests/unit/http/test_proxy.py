import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from agent_runtime.contract import Caller
from supervisor.http.identity import Identity
from tests.unit.http.support import (
    TOKEN,
    Door,
    agent_server,
    free_port,
    front_door,
    raw_request,
    token_keeper,
)


class Agent:
    """A small agent that tells what it got."""

    def __init__(self) -> None:
        self.more = asyncio.Event()
        self.gone = asyncio.Event()
        self.app = web.Application(client_max_size=10**9)
        add = self.app.router.add_route
        add("GET", "/sse", self.sse)
        add("POST", "/size", self.size)
        add("GET", "/zipped", self.zipped)
        add("GET", "/moved", self.moved)
        add("GET", "/cookies", self.cookies)
        add("GET", "/torn", self.torn)
        add("GET", "/vanish", self.vanish)
        add("*", "/{path:.*}", self.echo)

    async def echo(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "method": request.method,
                "target": request.raw_path,
                "headers": [[name, value] for name, value in request.headers.items()],
                "body": (await request.read()).decode("latin-1"),
            }
        )

    async def sse(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        try:
            await self.more.wait()
        except asyncio.CancelledError:
            self.gone.set()
            raise
        await response.write(b"data: two\n\n")
        return response

    async def size(self, request: web.Request) -> web.Response:
        total = 0
        async for chunk in request.content.iter_any():
            total += len(chunk)
            self.more.set()
        return web.json_response({"size": total, "length": request.headers.get("Content-Length")})

    async def zipped(self, request: web.Request) -> web.Response:
        return web.Response(body=gzip.compress(b"hello"), headers={"Content-Encoding": "gzip"})

    async def moved(self, request: web.Request) -> web.Response:
        raise web.HTTPFound("/elsewhere")

    async def cookies(self, request: web.Request) -> web.Response:
        return web.Response(
            headers=[("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2")],
            text=request.headers.get("Cookie", "none"),
        )

    async def torn(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        await response.write(b"the first half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def vanish(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


@asynccontextmanager
async def running(agent: Agent, **options: object) -> AsyncIterator[tuple[Door, aiohttp.ClientSession]]:
    async with (
        agent_server(agent.app) as address,
        front_door(address, **options) as door,  # type: ignore[arg-type]
        aiohttp.ClientSession(auto_decompress=False) as session,
    ):
        yield door, session


@pytest.fixture
def agent() -> Agent:
    return Agent()


async def test_a_request_reaches_the_agent_as_it_came(agent: Agent) -> None:
    async with running(agent) as (door, session):
        target = "/v1//a%2Fb/%C3%A9?q=%41+b&r=%2e%2e"
        async with session.put(URL(door.url + target, encoded=True), data=b"body") as answer:
            got = await answer.json()
    assert (got["method"], got["target"], got["body"]) == ("PUT", target, "body")
    assert ["Host", f"127.0.0.1:{door.port}"] in got["headers"]


async def test_forwarding_and_identity_headers_of_the_client_do_not_arrive(agent: Agent) -> None:
    sent = {
        "X-Forwarded-For": "9.9.9.9",
        "X-Real-IP": "9.9.9.9",
        "Forwarded": "for=9.9.9.9",
        "Cf-Access-Authenticated-User-Email": "x@example.com",
        "X-Mine": "kept",
    }
    async with running(agent) as (door, session), session.get(door.url + "/", headers=sent) as answer:
        got = await answer.json()
    assert "9.9.9.9" not in json.dumps(got)
    assert "example.com" not in json.dumps(got)
    assert ["X-Mine", "kept"] in got["headers"]


async def test_the_operator_token_ends_at_the_front_door(agent: Agent) -> None:
    async with running(agent, keeper=token_keeper()) as (door, session):
        for value in (f"Bearer {TOKEN}", aiohttp.encode_basic_auth("me", TOKEN)):
            async with session.get(door.url + "/", headers={"Authorization": value}) as answer:
                got = await answer.json()
            assert not [name for name, _ in got["headers"] if name == "Authorization"]


async def test_the_agent_is_told_who_is_asking(agent: Agent) -> None:
    def introduce(caller: Caller) -> dict[str, str]:
        return {"X-Caller": f"{caller.name} {caller.operator} {caller.address} {caller.scheme} {caller.host}"}

    options = {
        "keeper": token_keeper(),
        "identity": Identity(introduce, frozenset({"x-caller"}), public_origins=("https://claw.example.com",)),
        "public_paths": ["/hooks/*"],
    }
    async with running(agent, **options) as (door, session):
        sent = {"Authorization": f"Bearer {TOKEN}", "X-Caller": "eve", "Host": "claw.example.com"}
        async with session.get(door.url + "/", headers=sent) as answer:
            got = await answer.json()
        assert ["X-Caller", "operator True 127.0.0.1 https claw.example.com"] in got["headers"]
        async with session.post(door.url + "/hooks/x", headers={"X-Caller": "eve", "Host": "other"}) as answer:
            got = await answer.json()
        assert ["X-Caller", "False 127.0.0.1 http other"] in got["headers"]


async def test_in_mode_none_the_clients_authorization_is_for_the_agent(agent: Agent) -> None:
    async with (
        running(agent) as (door, session),
        session.get(door.url + "/", headers={"Authorization": "Bearer agents"}) as answer,
    ):
        got = await answer.json()
    assert ["Authorization", "Bearer agents"] in got["headers"]


async def test_events_pass_one_by_one_as_the_agent_sends_them(agent: Agent) -> None:
    async with running(agent) as (door, session), session.get(door.url + "/sse") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert await answer.content.readany() == b"data: one\n\n"
        agent.more.set()
        assert await answer.content.read() == b"data: two\n\n"


async def test_a_client_that_leaves_ends_the_agents_stream(agent: Agent) -> None:
    async with running(agent) as (door, session):
        async with session.get(door.url + "/sse") as answer:
            await answer.content.readany()
            answer.close()
        await asyncio.wait_for(agent.gone.wait(), 5)


async def test_a_large_upload_is_streamed_while_it_is_sent(agent: Agent) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 65536
        # Only an agent that already has the first part lets the second one go.
        await asyncio.wait_for(agent.more.wait(), 5)
        for _ in range(200):
            yield b"x" * 65536

    async with running(agent) as (door, session), session.post(door.url + "/size", data=body()) as answer:
        assert await answer.json() == {"size": 201 * 65536, "length": None}


async def test_a_content_length_is_kept(agent: Agent) -> None:
    async with (
        running(agent) as (door, session),
        session.post(door.url + "/size", data=b"x" * 100_000) as answer,
    ):
        assert await answer.json() == {"size": 100_000, "length": "100000"}


async def test_encoded_bodies_pass_as_they_are_in_both_directions(agent: Agent) -> None:
    async with running(agent) as (door, session):
        async with session.get(door.url + "/zipped") as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(await answer.read()) == b"hello"
        squeezed = gzip.compress(b"hello" * 100)
        async with session.post(door.url + "/size", data=squeezed, headers={"Content-Encoding": "gzip"}) as answer:
            # The length of the header is that of the body as it was sent.
            assert (await answer.json())["length"] == str(len(squeezed))


async def test_a_redirect_is_the_clients_to_follow(agent: Agent) -> None:
    async with (
        running(agent) as (door, session),
        session.get(door.url + "/moved", allow_redirects=False) as answer,
    ):
        assert (answer.status, answer.headers["Location"]) == (302, "/elsewhere")


async def test_cookies_are_the_clients_and_are_never_kept(agent: Agent) -> None:
    async with running(agent) as (door, _), aiohttp.ClientSession() as session:
        async with session.get(door.url + "/cookies") as answer:
            assert answer.headers.getall("Set-Cookie") == ["a=1; Path=/", "b=2"]
        session.cookie_jar.clear()
        async with session.get(door.url + "/cookies") as answer:
            assert await answer.text() == "none"


async def test_head_has_the_length_and_no_body(agent: Agent) -> None:
    async with running(agent) as (door, session), session.head(door.url + "/x") as answer:
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) > 0
        assert await answer.read() == b""


async def test_an_answer_that_breaks_off_is_seen_to_break_off(agent: Agent) -> None:
    async with running(agent) as (door, _):
        answer = await raw_request(door.port, "GET /torn HTTP/1.1\nHost: localhost\n\n")
    assert b"the first half" in answer
    assert not answer.endswith(b"0\r\n\r\n")


async def test_an_agent_that_dies_before_it_answers_is_502(agent: Agent) -> None:
    async with running(agent) as (door, session), session.post(door.url + "/vanish2") as answer:
        assert answer.status == 200
    async with running(Agent()) as (door, session), session.get(door.url + "/vanish") as answer:
        assert answer.status == 502
        assert (await answer.json())["error"]["code"] == "agent-broke-off"


@pytest.mark.parametrize("address", [None, ("127.0.0.1", free_port())])
async def test_without_an_agent_a_browser_waits_and_a_program_gets_json(
    address: tuple[str, int] | None,
) -> None:
    async with front_door(address) as door, aiohttp.ClientSession() as session:
        door.operations.current_phase = "launch"
        async with session.get(door.url + "/", headers={"Accept": "text/html,*/*"}) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "2"
            text = await answer.text()
            assert 'http-equiv="refresh"' in text
            assert "Starting the agent." in text
        async with session.get(door.url + "/v1/models") as answer:
            assert answer.status == 503
            assert (await answer.json())["error"]["code"] == "agent-unavailable"
        async with session.post(door.url + "/", headers={"Accept": "text/html"}) as answer:
            assert answer.content_type == "application/json"


@pytest.mark.parametrize("target", ["/../status", "/%2e%2e/api/admin/x", "/a/..%2f..%2fstatus"])
async def test_a_path_that_two_programs_read_differently_is_refused(agent: Agent, target: str) -> None:
    async with running(agent) as (door, _):
        answer = await raw_request(door.port, f"GET {target} HTTP/1.1\nHost: localhost\nConnection: close\n\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"unclear-path" in answer


async def test_only_public_paths_pass_without_the_token(agent: Agent) -> None:
    options = {"keeper": token_keeper(), "public_paths": ["/hooks/telegram"]}
    async with running(agent, **options) as (door, session):
        headers = {"Authorization": "x", "Cookie": "session=the-operators", "X-Forwarded-User": "alice"}
        async with session.post(door.url + "/hooks/telegram", headers=headers) as answer:
            assert answer.status == 200
            got = await answer.json()
        # What a webhook sends is for the agent; a browser's session, or a claimed identity, is not.
        assert ["Authorization", "x"] in got["headers"]
        assert "operators" not in json.dumps(got)
        assert "alice" not in json.dumps(got)
        for path in ("/hooks/telegram/x", "/hooks/telegramx", "/hooks"):
            async with session.post(door.url + path) as answer:
                assert answer.status == 401
        async with session.delete(door.url + "/hooks/telegram") as answer:
            assert answer.status == 401


@pytest.mark.parametrize("scheme", ["bearer", "basic", "one of two"])
async def test_an_operators_token_that_is_sent_to_a_public_path_does_not_reach_the_agent(
    agent: Agent, scheme: str
) -> None:
    basic = base64.b64encode(f"operator:{TOKEN}".encode()).decode()
    sent = {
        "bearer": [("Authorization", f"Bearer {TOKEN}")],
        "basic": [("Authorization", f"Basic {basic}")],
        "one of two": [("Authorization", "Bearer a-webhooks-own"), ("Authorization", f"bearer {TOKEN}")],
    }[scheme]
    callers: list[Caller] = []

    def introduce(caller: Caller) -> dict[str, str]:
        callers.append(caller)
        return {}

    options = {"keeper": token_keeper(), "public_paths": ["/hooks/*"], "identity": Identity(introduce)}
    async with (
        running(agent, **options) as (door, session),
        session.post(door.url + "/hooks/x", headers=sent, data=b"{}") as answer,
    ):
        assert answer.status == 200
        got = await answer.json()
    names = {name.lower() for name, _ in got["headers"]}
    assert "authorization" not in names
    assert TOKEN not in json.dumps(got)
    assert basic not in json.dumps(got)
    assert [(caller.name, caller.operator) for caller in callers] == [("", False)], "a stranger all the same"


async def test_ambiguous_framing_is_refused(agent: Agent) -> None:
    async with running(agent) as (door, _):
        answer = await raw_request(
            door.port,
            "POST / HTTP/1.1\nHost: localhost\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n",
        )
    assert answer.partition(b"\r\n")[0].endswith(b" 400 Bad Request")
    assert [event for event, _ in door.log.events] == ["bad request"]
