"""Requests through the broker to real servers on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from supervisor.broker.budget import Unit, Window
from supervisor.broker.prices import Price, Prices
from supervisor.broker.server import MAX_CONNECTIONS
from supervisor.broker.usage import LONGEST_ANSWER_TOKENS
from tests.unit.broker.support import KEY, VARIABLES, rig, upstream

ANSWER = {"model": "m-1", "usage": {"input_tokens": 7, "output_tokens": 3}}


class Recorder:
    """Keeps what reached the provider."""

    def __init__(self, answer: Any = ANSWER, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answer = answer
        self.status = status
        self.headers = headers or {}

    async def answer_it(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append((request.method, request.raw_path, headers, await request.read()))
        return web.json_response(self.answer, status=self.status, headers=self.headers)


@pytest.mark.parametrize(
    ("asked", "reached", "header", "value"),
    [
        ("/anthropic/v1/messages", "/anthropic/v1/messages", "x-api-key", KEY),
        ("/openai/v1/chat/completions", "/openai/chat/completions", "authorization", f"Bearer {KEY}"),
        ("/openai/v1/responses", "/openai/responses", "authorization", f"Bearer {KEY}"),
        ("/openai/v1/embeddings", "/openai/embeddings", "authorization", f"Bearer {KEY}"),
        ("/openrouter/v1/chat/completions", "/openrouter/chat/completions", "authorization", f"Bearer {KEY}"),
        ("/workers-ai/v1/chat/completions", "/workers-ai/chat/completions", "authorization", f"Bearer {KEY}"),
        ("/compatible/v1/chat/completions", "/compatible/chat/completions", "authorization", f"Bearer {KEY}"),
        ("/ai-gateway/v1/messages", "/ai-gateway/v1/messages", "x-api-key", KEY),
        ("/cf-ai-gw-anthropic/v1/messages", "/cf-ai-gw-anthropic/v1/messages", "x-api-key", KEY),
        (
            "/google/v1beta/models/gemini-3:streamGenerateContent?alt=sse",
            "/google/models/gemini-3:streamGenerateContent?alt=sse",
            "x-goog-api-key",
            KEY,
        ),
    ],
)
async def test_each_provider_gets_its_own_credential_at_its_own_path(
    asked: str, reached: str, header: str, value: str
) -> None:
    provider = Recorder()
    async with upstream(provider.answer_it) as url, rig(url) as broker:
        status, document, _ = await broker.ask(asked, {"model": "m"})
        assert (status, document) == (200, ANSWER)
        method, path, headers, body = provider.seen[0]
        assert (method, path) == ("POST", reached)
        assert headers[header] == value
        assert broker.token not in json.dumps(headers)
        assert json.loads(body) == {"model": "m"}
        if "cf-ai-gw" in asked:
            assert headers["cf-aig-authorization"] == "Bearer the-gateways-own-token-0123"


async def test_with_the_key_kept_at_the_gateway_only_the_gateways_token_is_sent() -> None:
    provider = Recorder()
    variables = {name: value for name, value in VARIABLES.items() if name != "CLOUDFLARE_AI_GATEWAY_API_KEY"}
    async with upstream(provider.answer_it) as url, rig(url, variables=variables) as broker:
        await broker.ask("/cf-ai-gw-anthropic/v1/messages", {})
        headers = provider.seen[0][2]
        assert headers["cf-aig-authorization"] == "Bearer the-gateways-own-token-0123"
        assert "x-api-key" not in headers
        assert "authorization" not in headers


async def test_whatever_credential_or_steering_the_agent_sends_ends_here() -> None:
    provider = Recorder()
    sent = {
        "Authorization": "Bearer stolen",
        "x-goog-api-key": "stolen",
        "Cookie": "a=stolen",
        "Proxy-Authorization": "stolen",
        "cf-aig-byok-alias": "stolen",
        "cf-aig-authorization": "stolen",
        "OpenAI-Organization": "stolen",
        "X-Forwarded-For": "stolen",
        "X-Custom-Token": "stolen",
        "Connection": "x-hop",
        "x-hop": "stolen",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "one,two",
        "idempotency-key": "kept",
    }
    async with upstream(provider.answer_it) as url, rig(url) as broker:
        await broker.ask("/anthropic/v1/messages?key=stolen&beta=true", {}, headers=sent)
        _, path, headers, _ = provider.seen[0]
        assert "stolen" not in json.dumps(headers) + path
        assert path.endswith("?beta=true")
        assert headers["anthropic-beta"] == "one,two"
        assert headers["idempotency-key"] == "kept"
        assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("how", ["x-api-key", "bearer", "x-goog-api-key", "query"])
async def test_the_token_is_taken_wherever_a_client_puts_its_key(how: str) -> None:
    async with upstream(Recorder().answer_it) as url, rig(url) as broker:
        headers = {"bearer": {"Authorization": f"Bearer {broker.token}"}, "query": {}}.get(how, {how: broker.token})
        path = "/google/v1beta/models/g:generateContent" + (f"?key={broker.token}" if how == "query" else "")
        async with broker.client.post(broker.url + path, json={}, headers=headers) as answer:
            assert answer.status == 200


async def test_without_this_lifes_token_nothing_is_passed_on() -> None:
    provider = Recorder()
    async with upstream(provider.answer_it) as url, rig(url) as broker, rig(url) as another:
        for headers in ({}, {"x-api-key": "guessed"}, {"x-api-key": another.token}, {"Authorization": broker.token}):
            async with broker.client.post(broker.url + "/anthropic/v1/messages", json={}, headers=headers) as answer:
                assert answer.status == 401
                assert (await answer.json(content_type=None))["error"]["type"] == "authentication_error"
        assert provider.seen == []


@pytest.mark.parametrize(
    "path",
    [
        "/anthropic/v1/messages/../organizations",
        "/anthropic/v1/messages/%2e%2e/organizations",
        "/anthropic/v1/%6dessages",
        "/anthropic//v1/messages",
        "/anthropic/v1/messages/",
        "/anthropic/v1/messages;x",
        "/anthropic/v1\\messages",
        "/anthropic/v1/messages/batches",
        "/anthropic/v1/files",
        "/anthropic/v1/organizations/api_keys",
        "/openai/v1/files",
        "/openai/v1/fine_tuning/jobs",
        "/openai/v1/models/..",
        "/openai/chat/completions",
        "/anthropic",
        "/anthropicx/v1/messages",
        "/google/v1beta/models/x:tunedModels",
        "/google/v1beta/cachedContents",
        "/%61nthropic/v1/messages",
        "//anthropic/v1/messages",
        "/",
        "/nowhere/v1/messages",
    ],
)
async def test_no_other_path_passes_in_whatever_writing(path: str) -> None:
    provider = Recorder()
    async with upstream(provider.answer_it) as url, rig(url) as broker:
        # Raw, since a client's library would tidy the path up.
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"x-api-key: {broker.token}", "Content-Length: 2"]
        request = "\r\n".join([*lines, "Connection: close", "", "{}"])
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.broker.port)
        writer.write(request.encode())
        answer = await reader.read()
        writer.close()
        assert answer.split(b" ", 2)[1] in (b"400", b"403", b"404"), answer[:200]
        assert provider.seen == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_a_path_passes_with_its_own_method_only(method: str) -> None:
    provider = Recorder()
    async with upstream(provider.answer_it) as url, rig(url) as broker:
        status, _, _ = await broker.ask("/openai/v1/chat/completions", method=method)
        assert status == 403
        assert provider.seen == []


async def test_models_can_be_listed_and_cost_nothing() -> None:
    async with (
        upstream(Recorder({"data": []}).answer_it) as url,
        rig(url, limits={(Unit.REQUESTS, Window.DAY): 1}) as broker,
    ):
        for path in ("/openai/v1/models", "/openai/v1/models/a/b", "/anthropic/v1/models/c", "/google/v1beta/models"):
            assert (await broker.ask(path, method="GET"))[0] == 200
        assert await broker.usage() == []


async def test_the_first_chunk_arrives_before_the_second_is_sent() -> None:
    go_on = asyncio.Event()

    async def provider(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'event: message_start\ndata: {"type":"message_start"}\n\n')
        await go_on.wait()
        await response.write(b'data: {"type":"message_stop"}\n\n')
        return response

    async with (
        upstream(provider) as url,
        rig(url) as broker,
        broker.client.post(
            broker.url + "/anthropic/v1/messages", json={}, headers={"x-api-key": broker.token}
        ) as answer,
    ):
        async with asyncio.timeout(5):
            first = await answer.content.readany()
        assert first.endswith(b'"message_start"}\n\n')
        go_on.set()
        assert await answer.content.read() == b'data: {"type":"message_stop"}\n\n'


async def test_a_request_streams_up_before_it_is_whole() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def provider(request: web.Request) -> web.StreamResponse:
        assert await request.content.readany() == b"one"
        reached.set()
        assert await request.content.read() == b"two"
        return web.json_response(ANSWER)

    async def body() -> Any:
        yield b"one"
        async with asyncio.timeout(5):
            await go_on.wait()
        yield b"two"

    async with upstream(provider) as url, rig(url) as broker:
        asking = asyncio.ensure_future(
            broker.client.post(
                broker.url + "/openai/v1/audio/transcriptions", data=body(), headers={"x-api-key": broker.token}
            )
        )
        async with asyncio.timeout(5):
            await reached.wait()
        go_on.set()
        async with await asking as answer:
            assert answer.status == 200


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked() -> None:
    provider = Recorder()
    async with upstream(provider.answer_it) as url, rig(url) as broker:
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.broker.port)
        lines = ["POST /anthropic/v1/messages HTTP/1.1", "Host: x", f"x-api-key: {broker.token}", "Content-Length: 2"]
        writer.write("\r\n".join([*lines, "Expect: 100-continue", "Connection: close", "", ""]).encode())
        async with asyncio.timeout(5):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"{}")
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(json.dumps(ANSWER).encode())
        assert provider.seen[0][3] == b"{}"


async def test_the_agent_cannot_use_up_the_daemons_descriptors() -> None:
    async with upstream(Recorder().answer_it) as url, rig(url) as broker:
        opened = [await asyncio.open_connection("127.0.0.1", broker.broker.port) for _ in range(MAX_CONNECTIONS + 40)]
        await asyncio.sleep(0.2)
        dropped = [reader for reader, _ in opened if reader.at_eof() or reader.exception()]
        assert len(dropped) >= 40
        for _, writer in opened:
            writer.close()
        await asyncio.sleep(0.2)
        assert (await broker.ask("/anthropic/v1/messages", {}))[0] == 200


async def test_a_client_that_leaves_ends_the_request_to_the_provider_and_is_charged_what_came() -> None:
    gone = asyncio.Event()

    async def provider(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        start = {
            "type": "message_start",
            "message": {"model": "m-1", "usage": {"input_tokens": 50, "output_tokens": 1}},
        }
        await response.write(f"data: {json.dumps(start)}\n\n".encode())
        try:
            while True:
                await response.write(b'data: {"type":"content_block_delta"}\n\n')
                await asyncio.sleep(0.01)
        except (ConnectionError, asyncio.CancelledError):
            gone.set()
            raise

    async with upstream(provider) as url, rig(url) as broker:
        async with broker.client.post(
            broker.url + "/anthropic/v1/messages", json={}, headers={"x-api-key": broker.token}
        ) as answer:
            while b"content_block_delta" not in await answer.content.readany():
                pass
            answer.close()
        async with asyncio.timeout(5):
            await gone.wait()
        row = (await broker.usage())[0]
        assert (row["model"], row["input"], row["estimated"]) == ("m-1", 50, 1)
        assert row["output"] >= 2


async def test_a_provider_that_breaks_off_breaks_the_answer_off() -> None:
    async def provider(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: {}\n\n")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with upstream(provider) as url, rig(url) as broker:
        with pytest.raises(aiohttp.ClientError):
            await broker.ask("/anthropic/v1/messages", {})


async def test_a_provider_out_of_reach_is_said_so_without_its_key() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with rig(f"http://127.0.0.1:{unused.getsockname()[1]}") as broker:
            status, document, _ = await broker.ask("/anthropic/v1/messages", {})
            assert status == 502
            assert document["error"]["type"] == "api_error"
            assert "cannot be reached" in document["error"]["message"]
            assert KEY not in json.dumps(document)


async def test_errors_and_limits_of_the_provider_pass_and_cost_nothing() -> None:
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    headers = {
        "retry-after": "17",
        "anthropic-ratelimit-requests-remaining": "0",
        "Set-Cookie": "a=b",
        "request-id": "r1",
    }
    provider = Recorder(error, 429, headers)
    async with upstream(provider.answer_it) as url, rig(url) as broker:
        status, document, got = await broker.ask("/anthropic/v1/messages", {"model": "m"})
        assert (status, document) == (429, error)
        assert got["retry-after"] == "17"
        assert got["anthropic-ratelimit-requests-remaining"] == "0"
        assert got["request-id"] == "r1"
        assert "Set-Cookie" not in got
        assert len(provider.seen) == 1, "nothing is tried again here"
        row = (await broker.usage())[0]
        assert (row["model"], row["requests"], row["input"], row["output"]) == ("m", 1, 0, 0)


async def test_a_provider_that_echoes_the_key_is_not_believed() -> None:
    async def provider(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=401, reason=f"no {KEY}", headers={"x-echo": f"<{KEY}>", "x-fine": "1"})
        await response.prepare(request)
        half = len(KEY) // 2
        await response.write(b"bad key " + KEY[:half].encode())
        await asyncio.sleep(0.05)
        await response.write(KEY[half:].encode() + b" and " + KEY[:5].encode())
        return response

    async with upstream(provider) as url, rig(url) as broker:
        status, text, headers = await broker.ask("/openai/v1/chat/completions", {})
        assert status == 401
        assert text == f"bad key {'*' * len(KEY)} and {KEY[:5]}"
        assert "x-echo" not in headers
        assert headers["x-fine"] == "1"
        assert KEY not in "".join(broker.events)


async def test_a_redirect_leads_nowhere() -> None:
    async def provider(request: web.Request) -> web.StreamResponse:
        assert "elsewhere" not in request.path
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with upstream(provider) as url, rig(url) as broker:
        status, _, headers = await broker.ask("/openai/v1/chat/completions", {})
        assert status == 307
        assert "Location" not in headers


async def test_a_rotated_key_is_used_for_the_next_request(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.touch(0o600)
    file.write_text(f"# keys\nANTHROPIC_API_KEY='{KEY}-file'\n")
    provider = Recorder()
    async with upstream(provider.answer_it) as url, rig(url, keys_file=file) as broker:
        await broker.ask("/anthropic/v1/messages", {})
        file.write_text("ANTHROPIC_API_KEY=sk-the-next-key\n")
        await broker.clock.advance(1.5)
        await broker.ask("/anthropic/v1/messages", {})
        file.unlink()
        await broker.clock.advance(1.5)
        await broker.ask("/anthropic/v1/messages", {})
        assert [headers["x-api-key"] for _, _, headers, _ in provider.seen] == [
            f"{KEY}-file",
            "sk-the-next-key",
            "sk-the-next-key",
        ]
        assert "keys-file" in broker.problems


async def test_huge_bodies_pass_both_ways_in_bounded_memory() -> None:
    size = 192 << 20
    block = os.urandom(1 << 16)

    async def provider(request: web.Request) -> web.StreamResponse:
        read = 0
        async for chunk in request.content.iter_any():
            read += len(chunk)
        response = web.StreamResponse(headers={"x-read": str(read), "Content-Type": "application/json"})
        await response.prepare(request)
        for _ in range(size // len(block)):
            await response.write(block)
        return response

    async def body() -> Any:
        for _ in range(size // len(block)):
            yield block

    async with upstream(provider) as url, rig(url) as broker:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with broker.client.post(
            broker.url + "/openai/v1/images/edits", data=body(), headers={"x-api-key": broker.token}
        ) as answer:
            assert answer.headers["x-read"] == str(size)
            got = 0
            async for chunk in answer.content.iter_any():
                got += len(chunk)
        assert got == size
        # Client, broker and provider are all in here.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


async def test_a_budget_refuses_in_the_providers_own_words_and_says_until_when() -> None:
    limits = {(Unit.TOKENS, Window.DAY): 15.0, (Unit.REQUESTS, Window.MINUTE): 3.0}
    provider = Recorder()
    async with upstream(provider.answer_it) as url, rig(url, limits=limits) as broker:
        assert (await broker.ask("/anthropic/v1/messages", {}))[0] == 200
        assert (await broker.ask("/anthropic/v1/messages", {}))[0] == 200
        assert "budget-spent" in broker.problems
        status, document, headers = await broker.ask("/anthropic/v1/messages", {})
        assert status == 429
        assert document["type"] == "error"
        assert document["error"]["type"] == "rate_limit_error"
        message = document["error"]["message"]
        assert "daily usage limit" in message
        assert "20 of 15 tokens" in message
        assert "resets at 2027-01-16 00:00 UTC" in message
        assert len(message) <= 300
        assert headers["x-should-retry"] == "false"
        assert "Retry-After" not in headers
        status, document, _ = await broker.ask("/openai/v1/responses", {})
        assert (status, document["error"]["code"]) == (429, "rate_limit_exceeded")
        status, document, _ = await broker.ask("/google/v1beta/models/g:generateContent", {})
        assert (status, document["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
        assert len(provider.seen) == 2
        assert b'moltinit_model_requests_refused_total{provider="anthropic",unit="tokens",window="day"} 1.0' in (
            broker.metrics.render()
        )


class Slow(Recorder):
    """Answers nobody before `go_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.arrived: asyncio.Queue[str] = asyncio.Queue()
        self.left: asyncio.Queue[str] = asyncio.Queue()

    async def answer_it(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.arrived.put_nowait(request.path)
        try:
            await self.go_on.wait()
        finally:
            self.left.put_nowait(request.path)
        return await super().answer_it(request)


@pytest.mark.parametrize("sized", [True, False])
async def test_of_many_at_once_no_more_pass_than_the_dollars_left_pay_for(sized: bool) -> None:
    provider = Slow()
    body = b"x" * 4000

    async def chunked() -> Any:
        yield body

    async with (
        upstream(provider.answer_it) as url,
        rig(url, limits={(Unit.DOLLARS, Window.DAY): 0.01}, prices=Prices({"m": Price(3, 0, 3, 3)})) as broker,
    ):

        async def ask() -> tuple[int, str | None]:
            async with broker.client.post(
                broker.url + "/anthropic/v1/messages",
                data=body if sized else chunked(),
                headers={"x-api-key": broker.token},
            ) as answer:
                return answer.status, answer.headers.get("Retry-After")

        asking = [asyncio.ensure_future(ask()) for _ in range(40)]
        try:
            async with asyncio.timeout(10):
                for _, answered in zip(range(36), asyncio.as_completed(asking), strict=False):
                    await answered
        finally:
            provider.go_on.set()
        answers = await asyncio.gather(*asking)
        refused = [wait for status, wait in answers if status == 429]
        # 1000 tokens of input each, at 3 dollars a million; the last one that tells its size may cross the limit.
        assert 1 <= len(answers) - len(refused) <= (4 if sized else 3)
        assert set(refused) == {"5"}, "it is free again when those under way have ended"
        assert (await ask())[0] == 200


async def test_a_body_without_a_size_breaks_off_where_it_goes_beyond_a_limit() -> None:
    whole = []

    async def provider(request: web.Request) -> web.StreamResponse:
        whole.append(await request.read())
        return web.json_response(ANSWER)

    async def body() -> Any:
        for _ in range(100):
            yield b"x" * 4000
            await asyncio.sleep(0)

    async with upstream(provider) as url, rig(url, limits={(Unit.TOKENS, Window.DAY): 20_000}) as broker:
        async with broker.client.post(
            broker.url + "/openai/v1/responses", data=body(), headers={"x-api-key": broker.token}
        ) as answer:
            assert answer.status == 429
            assert (await answer.json())["error"]["code"] == "rate_limit_exceeded"
        assert whole == []
        row = (await broker.usage())[0]
        assert (row["requests"], row["input"], row["output"]) == (1, 0, 0), "nobody has it whole"


async def test_a_response_that_is_made_in_the_background_is_charged_as_the_longest() -> None:
    queued = {"id": "resp_1", "status": "queued", "background": True, "model": "m-1", "usage": None}
    limits = {(Unit.TOKENS, Window.DAY): float(LONGEST_ANSWER_TOKENS)}
    async with upstream(Recorder(queued).answer_it) as url, rig(url, limits=limits) as broker:
        assert (await broker.ask("/openai/v1/responses", {"background": True}))[0] == 200
        assert (await broker.usage())[0]["output"] == LONGEST_ANSWER_TOKENS
        assert (await broker.ask("/openai/v1/responses", {"background": True}))[0] == 429


async def test_who_hangs_up_before_the_answer_pays_for_what_may_go_on_without_him() -> None:
    provider = Slow()
    async with upstream(provider.answer_it) as url, rig(url) as broker:
        for path in ("/openai/v1/responses", "/openai/v1/chat/completions"):
            asking = asyncio.ensure_future(broker.ask(path, {"model": path[-9:], "background": True}))
            async with asyncio.timeout(5):
                await provider.arrived.get()
                asking.cancel()
                await provider.left.get()
        charged = {row["model"]: row["output"] for row in await broker.usage()}
        assert charged == {"responses": LONGEST_ANSWER_TOKENS, "mpletions": 0}


@pytest.mark.parametrize(
    ("asked", "reached"),
    [
        ("alt=sse&fields=candidates", "alt=sse"),
        ("$fields=candidates&%24fields=a&Fields=b&%66ields=c", ""),
        ("alt=proto&$alt=proto&callback=f", ""),
        ("alt=json&prettyPrint=false", "alt=json"),
    ],
)
async def test_no_parameter_passes_that_could_hide_what_an_answer_cost(asked: str, reached: str) -> None:
    provider = Recorder()
    async with upstream(provider.answer_it) as url, rig(url) as broker:
        path = "/google/v1beta/models/g:streamGenerateContent"
        await broker.ask(f"{path}?{asked}", {}, headers={"X-Goog-FieldMask": "candidates"})
        _, got, headers, _ = provider.seen[0]
        assert got.partition("?")[2] == reached
        assert "x-goog-fieldmask" not in headers


async def test_lists_of_models_can_be_turned_over() -> None:
    provider = Recorder({"data": []})
    asked = (
        "/anthropic/v1/models?limit=100&after_id=claude-1",
        "/google/v1beta/models?pageSize=50&pageToken=Ch%2B%3D",
        "/openai/v1/models",
    )
    async with upstream(provider.answer_it) as url, rig(url) as broker:
        for path in asked:
            await broker.ask(path, method="GET")
        assert [path.partition("?")[2] for _, path, _, _ in provider.seen] == [
            "limit=100&after_id=claude-1",
            "pageSize=50&pageToken=Ch%2B%3D",
            "",
        ]


async def test_a_limit_of_the_minute_asks_to_come_again() -> None:
    async with upstream(Recorder().answer_it) as url, rig(url, limits={(Unit.REQUESTS, Window.MINUTE): 1.0}) as broker:
        await broker.ask("/anthropic/v1/messages", {})
        status, _, headers = await broker.ask("/anthropic/v1/messages", {})
        assert status == 429
        assert 1 <= int(headers["Retry-After"]) <= 60
        await broker.clock.advance(int(headers["Retry-After"]))
        assert (await broker.ask("/anthropic/v1/messages", {}))[0] == 200


async def test_usage_is_counted_by_provider_and_model() -> None:
    async with upstream(Recorder().answer_it) as url, rig(url) as broker:
        await broker.ask("/anthropic/v1/messages", {"model": "asked"})
        assert (await broker.usage())[0] | {"dollars": 0} == {
            "provider": "anthropic",
            "model": "m-1",
            "requests": 1,
            "input": 7,
            "output": 3,
            "cache_read": 0,
            "cache_write": 0,
            "estimated": 0,
            "dollars": 0,
        }
        text = broker.metrics.render().decode()
        assert 'moltinit_model_tokens_total{kind="output",model="m-1",provider="anthropic"} 3.0' in text
        assert 'moltinit_model_requests_total{model="m-1",outcome="ok",provider="anthropic"} 1.0' in text
