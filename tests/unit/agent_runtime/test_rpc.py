"""The gateway's protocol, spoken by a gateway that means no good."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from agent_runtime.openclaw.rpc import Rpc, RpcError
from tests.support.daemon import free_port


@asynccontextmanager
async def gateway(answer: Callable[[str], str]) -> AsyncIterator[str]:
    """One that shakes hands properly, and then answers every call as it likes."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "event", "event": "connect.challenge", "payload": {}})
        async for message in socket:
            call = json.loads(message.data)
            if call["method"] == "connect":
                await socket.send_json({"type": "res", "id": call["id"], "ok": True, "payload": {}})
            else:
                await socket.send_str(answer(call["id"]))
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"ws://127.0.0.1:{port}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "answer",
    [
        lambda number: json.dumps({"type": "res", "id": number, "ok": False, "error": "a text"}),
        lambda number: json.dumps({"type": "res", "id": number, "ok": False, "error": ["a list"]}),
        lambda number: json.dumps({"type": "res", "id": number, "ok": False}),
        lambda number: '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        lambda number: "no JSON",
    ],
    ids=["a text for an error", "a list for an error", "no error", "deeper than any stack", "no JSON"],
)
async def test_whatever_it_answers_is_an_answer_or_an_rpc_error(answer: Callable[[str], str]) -> None:
    async with gateway(answer) as url, Rpc(url, None) as rpc:
        with pytest.raises(RpcError):
            await rpc.call("anything")


async def test_a_payload_that_is_no_object_is_an_empty_one() -> None:
    def answer(number: str) -> str:
        return json.dumps({"type": "res", "id": number, "ok": True, "payload": [1]})

    async with gateway(answer) as url, Rpc(url, None) as rpc:
        assert await rpc.call("anything") == {}
