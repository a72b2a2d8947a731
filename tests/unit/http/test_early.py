import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from supervisor.errors import SettingsError
from supervisor.http.auth import gatekeeper
from supervisor.http.early import MAX_REQUEST_BYTES, EarlyResponder, listen
from supervisor.http.server import FrontDoor
from tests.unit.http.support import FakeOperations, RecordingLog, raw_request, until


@asynccontextmanager
async def early(*, request_seconds: float = 5.0) -> AsyncIterator[tuple[EarlyResponder, int]]:
    listener = listen("127.0.0.1", 0)
    responder = EarlyResponder(listener, lambda: "restore", request_seconds=request_seconds)
    responder.start()
    try:
        yield responder, listener.getsockname()[1]
    finally:
        responder.hand_over()
        await responder.finished()
        listener.close()


def parse(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body


async def ask(port: int, line: str) -> tuple[int, dict[str, str], bytes]:
    return parse(await raw_request(port, f"{line} HTTP/1.1\nHost: x\n\n"))


async def test_livez_is_200_while_everything_else_is_not_there_yet() -> None:
    async with early() as (_, port):
        status, headers, body = await ask(port, "GET /livez?x=1")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert json.loads(body) == {"ok": True, "phase": "restore"}


@pytest.mark.parametrize("path", ["/readyz", "/startupz"])
async def test_readiness_is_503_and_says_why(path: str) -> None:
    async with early() as (_, port):
        status, _, body = await ask(port, f"GET {path}")
        assert status == 503
        assert "restore" in json.loads(body)["failing"][0]["message"]


async def test_head_has_the_headers_of_get_and_no_body() -> None:
    async with early() as (_, port):
        status, headers, body = await ask(port, "HEAD /livez")
        assert (status, body) == (200, b"")
        assert int(headers["content-length"]) > 0


async def test_any_other_path_is_a_waiting_page_for_a_browser() -> None:
    async with early() as (_, port):
        answer = await raw_request(port, "GET /chat HTTP/1.1\nHost: x\nAccept: text/html,*/*\n\n")
        status, headers, body = parse(answer)
        assert (status, headers["retry-after"]) == (503, "2")
        assert "default-src 'none'" in headers["content-security-policy"]
        assert b"Bringing back" in body


async def test_any_other_path_is_json_for_a_program() -> None:
    async with early() as (_, port):
        status, headers, body = await ask(port, "GET /chat")
        assert (status, headers["retry-after"]) == (503, "2")
        assert json.loads(body)["error"]["code"] == "agent-unavailable"


async def test_a_websocket_upgrade_is_503_too() -> None:
    async with early() as (_, port):
        answer = await raw_request(port, "GET /ws HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: websocket\n\n")
        assert parse(answer)[0] == 503


async def test_a_post_with_a_body_gets_its_answer_and_no_reset() -> None:
    async with early() as (_, port):
        body = b"x" * 200_000
        answer = await raw_request(port, f"POST /say HTTP/1.1\nHost: x\nContent-Length: {len(body)}\n\n", body)
        assert parse(answer)[0] == 503


async def test_a_health_path_refuses_other_methods() -> None:
    async with early() as (_, port):
        status, headers, _ = await ask(port, "POST /livez")
        assert (status, headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("head", ["nonsense\n\n", "GET http://x/ HTTP/1.1\n\n", "GET / HTTP/2\n\n"])
async def test_what_is_no_request_is_400(head: str) -> None:
    async with early() as (_, port):
        assert parse(await raw_request(port, head))[0] == 400


async def test_a_head_without_end_is_refused_at_the_limit() -> None:
    async with early() as (_, port):
        answer = await raw_request(port, "GET / HTTP/1.1\nX: " + "x" * MAX_REQUEST_BYTES)
        assert parse(answer)[0] == 400


async def test_a_client_that_never_ends_its_request_is_dropped() -> None:
    async with early(request_seconds=0.1) as (_, port):
        assert await raw_request(port, "GET / HTTP/1.1\n") == b""


async def test_more_clients_than_are_served_at_once_are_all_answered() -> None:
    async with early() as (_, port):
        answers = await asyncio.gather(*(ask(port, "GET /livez") for _ in range(150)))
        assert {status for status, _, _ in answers} == {200}


def test_an_address_in_use_is_named_in_the_error() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"127\.0\.0\.1:{port}: Address already in use"):
            listen("127.0.0.1", port)


async def test_no_connection_is_refused_or_reset_while_aiohttp_takes_the_port_over() -> None:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    responder = EarlyResponder(listener, lambda: "boot")
    responder.start()
    stop = asyncio.Event()
    bodies: list[bytes] = []

    async def hammer() -> None:
        while not stop.is_set():
            status, _, body = parse(await raw_request(port, "GET /livez HTTP/1.1\nHost: x\nConnection: close\n\n"))
            assert status == 200
            bodies.append(body)

    operations = FakeOperations()
    keeper = gatekeeper("none", listen_host="127.0.0.1", operator_token=None)
    front = FrontDoor(operations, keeper, RecordingLog())
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(hammer())
        await until(lambda: len(bodies) >= 40)
        await front.start(responder.hand_over())
        await responder.finished()
        so_far = len(bodies)
        await until(lambda: len(bodies) >= so_far + 40)
        stop.set()
    await front.stop()
    assert json.loads(bodies[0]) == {"ok": True, "phase": "boot"}
    assert json.loads(bodies[-1]) == {"ok": True}


async def test_a_request_begun_before_the_hand_over_is_answered_after_it() -> None:
    async with early() as (responder, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /livez HTTP/1.1\r\n")
        await writer.drain()
        # The connection is accepted before anything of a later one is answered.
        await ask(port, "GET /livez")
        responder.hand_over()
        writer.write(b"\r\n")
        assert parse(await reader.read())[0] == 200
        writer.close()
        await writer.wait_closed()


def test_the_responder_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, supervisor.http.early as e;"
        "sys.exit(any(n in sys.modules for n in ('aiohttp', 'structlog', 'prometheus_client', 's3fs')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
