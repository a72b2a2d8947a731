"""A stand-in for the model providers: it answers with every `MARK-...` word that it was told by the user.

OpenAI chat completions, responses and embeddings, Anthropic messages, each streamed or not, with tool calls where they
are told. So an answer proves which context came
along: `marks=MARK-one,MARK-two`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from aiohttp import web

MARK = re.compile(r"MARK-[A-Za-z0-9-]+")


class ModelServer:
    """Counts and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self.delay = 0.0
        self.url = ""
        self.script: list[tuple[str, dict[str, Any]]] = []
        """Tools that are called next, one in each answer to a request that offers tools."""
        self.runaway: tuple[str, dict[str, Any]] | None = None
        """A tool that is called in every answer: a loop without end."""
        self.arrived: list[tuple[str, str]] = []
        """Path and credential of every request."""

    @property
    def last_marks(self) -> list[str]:
        """The marks in the user's messages of the last request with any."""
        for request in reversed(self.requests):
            if marks := marks_of(request):
                return marks
        return []

    async def asked(self, *, more_than: int) -> None:
        """Wait until there were more requests than that."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.requests) > more_than)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        document = await request.json()
        self.arrived.append(
            (request.path, request.headers.get("x-api-key") or request.headers.get("Authorization", ""))
        )
        async with self._news:
            self.requests.append(document)
            self._news.notify_all()
        await asyncio.sleep(self.delay)
        text = f"HEARD marks={','.join(marks_of(document))}"
        kind = request.path.rsplit("/", 1)[-1]
        if kind == "embeddings":
            return web.json_response(_embeddings(document))
        events = {"messages": _anthropic, "completions": _completions, "responses": _responses}.get(kind)
        if events is None:
            return web.json_response({"error": {"message": f"no {request.path}"}}, status=404)
        call = None
        if document.get("tools"):
            call = self.runaway or (self.script.pop(0) if self.script else None)
        plain, stream = events(text) if call is None else _CALLS[kind](*call)
        if not document.get("stream"):
            return web.json_response(plain)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for name, data in stream:
            head = f"event: {name}\n" if name else ""
            body = data if isinstance(data, str) else json.dumps(data)
            await response.write(f"{head}data: {body}\n\n".encode())
        await response.write_eof()
        return response


def marks_of(document: dict[str, Any]) -> list[str]:
    """The marks in the user's messages, in order, each once."""
    texts = [
        json.dumps(message.get("content"))
        for message in document.get("messages") or document.get("input") or []
        if isinstance(message, dict) and message.get("role") == "user"
    ]
    return list(dict.fromkeys(mark for text in texts for mark in MARK.findall(text)))


_Events = tuple[dict[str, Any], list[tuple[str, Any]]]


def _anthropic(text: str) -> _Events:
    usage = {"input_tokens": 10, "output_tokens": 5}
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "fake",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    block = {"type": "text", "text": ""}
    stream = [
        ("message_start", {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}),
        ("content_block_start", {"type": "content_block_start", "index": 0, "content_block": block}),
        (
            "content_block_delta",
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        ),
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        (
            "message_delta",
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 5},
            },
        ),
        ("message_stop", {"type": "message_stop"}),
    ]
    return message, stream


def _completions(text: str) -> _Events:
    base = {"id": "c1", "created": 1, "model": "fake"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    plain = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
    chunk = {**base, "object": "chat.completion.chunk"}
    first = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    stream: list[tuple[str, Any]] = [
        ("", {**chunk, "choices": [first]}),
        ("", {**chunk, "choices": [last], "usage": usage}),
        ("", "[DONE]"),
    ]
    return plain, stream


def _responses(text: str) -> _Events:
    item = {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": []}],
    }
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    plain = {"id": "r1", "object": "response", "status": "completed", "model": "fake", "output": [item], "usage": usage}
    started = {**plain, "status": "in_progress", "output": []}
    delta = {
        "type": "response.output_text.delta",
        "output_index": 0,
        "content_index": 0,
        "item_id": "m1",
        "delta": text,
    }
    stream = [
        ("response.created", {"type": "response.created", "response": started}),
        (
            "response.output_item.added",
            {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        ),
        ("response.output_text.delta", delta),
        ("response.output_item.done", {"type": "response.output_item.done", "output_index": 0, "item": item}),
        ("response.completed", {"type": "response.completed", "response": plain}),
    ]
    return plain, stream


def _embeddings(document: dict[str, Any]) -> dict[str, Any]:
    inputs = document["input"] if isinstance(document["input"], list) else [document["input"]]
    vector = [1.0] + [0.0] * 255
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, _ in enumerate(inputs)]
    return {"object": "list", "data": data, "model": "fake", "usage": {"prompt_tokens": 3, "total_tokens": 3}}


def _anthropic_call(name: str, arguments: dict[str, Any]) -> _Events:
    call = {"type": "tool_use", "id": f"toolu_{uuid4().hex[:12]}", "name": name}
    plain, stream = _anthropic("")
    plain = {**plain, "content": [{**call, "input": arguments}], "stop_reason": "tool_use"}
    delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
    stop = {"stop_reason": "tool_use", "stop_sequence": None}
    events: list[tuple[str, Any]] = [
        stream[0],
        (
            "content_block_start",
            {"type": "content_block_start", "index": 0, "content_block": {**call, "input": {}}},
        ),
        ("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}),
        ("content_block_stop", {"type": "content_block_stop", "index": 0}),
        ("message_delta", {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 5}}),
        ("message_stop", {"type": "message_stop"}),
    ]
    return plain, events


def _completions_call(name: str, arguments: dict[str, Any]) -> _Events:
    plain, stream = _completions("")
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": f"call_{uuid4().hex[:12]}", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    plain = {**plain, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    first, last, done = stream
    delta = {"role": "assistant", "tool_calls": [{"index": 0, **call}]}
    events = [
        ("", {**first[1], "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}),
        ("", {**last[1], "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
        done,
    ]
    return plain, events


def _responses_call(name: str, arguments: dict[str, Any]) -> _Events:
    plain, stream = _responses("")
    text = json.dumps(arguments)
    number = uuid4().hex[:12]
    item = {"id": f"fc_{number}", "type": "function_call", "call_id": f"call_{number}", "name": name, "arguments": text}
    begun = {**item, "arguments": "", "status": "in_progress"}
    ended = {**item, "status": "completed"}
    plain = {**plain, "output": [ended]}
    at = {"output_index": 0, "item_id": item["id"]}
    events: list[tuple[str, Any]] = [
        stream[0],
        (
            "response.output_item.added",
            {"type": "response.output_item.added", "output_index": 0, "item": begun},
        ),
        (
            "response.function_call_arguments.delta",
            {"type": "response.function_call_arguments.delta", **at, "delta": text},
        ),
        (
            "response.function_call_arguments.done",
            {"type": "response.function_call_arguments.done", **at, "arguments": text},
        ),
        ("response.output_item.done", {"type": "response.output_item.done", "output_index": 0, "item": ended}),
        ("response.completed", {"type": "response.completed", "response": plain}),
    ]
    return plain, events


_CALLS = {"messages": _anthropic_call, "completions": _completions_call, "responses": _responses_call}


@asynccontextmanager
async def model_server() -> AsyncIterator[ModelServer]:
    """A running server on loopback."""
    server = ModelServer()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/{tail:.*}", server._answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()
