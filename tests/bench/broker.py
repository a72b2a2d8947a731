"""What the broker adds: first byte, whole small answers, and throughput, each against the same provider directly.

`python -m tests.bench.broker`; half a minute. Provider, broker and client are a process each.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from tests.support.daemon import free_port
from tests.unit.broker.support import rig

ROUNDS = 300
EVENTS = 2_000
BULK = 256 << 20
MESSAGES, IMAGES = "/anthropic/v1/messages", "/openai/images/generations"


async def _messages(request: web.Request) -> web.StreamResponse:
    await request.read()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(int(request.query.get("events", "1"))):
        event = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f"word {number} "}}
        await response.write(f"event: content_block_delta\ndata: {json.dumps(event)}\n\n".encode())
    return response


async def _bulk(request: web.Request) -> web.StreamResponse:
    await request.read()
    response = web.StreamResponse(headers={"Content-Type": "image/png"})
    await response.prepare(request)
    block = os.urandom(1 << 18)
    for _ in range(BULK // len(block)):
        await response.write(block)
    return response


async def _provider(port: int) -> None:
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post(MESSAGES, _messages)
    app.router.add_post(IMAGES, _bulk)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


async def _median(work: Callable[[str], Awaitable[float]], url: str, rounds: int) -> float:
    for _ in range(min(rounds, 20) // 2):
        await work(url)
    return statistics.median([await work(url) for _ in range(rounds)])


class _Bench:
    def __init__(self, session: aiohttp.ClientSession, headers: dict[str, str]) -> None:
        self._session = session
        self._headers = headers

    async def first_byte(self, url: str) -> float:
        began = time.perf_counter()
        async with self._session.post(url, json={"model": "m"}, headers=self._headers) as answer:
            await answer.content.readany()
            took = time.perf_counter() - began
            await answer.read()
        return took

    async def whole(self, url: str) -> float:
        began = time.perf_counter()
        async with self._session.post(url, json={"model": "m"}, headers=self._headers) as answer:
            async for _ in answer.content.iter_any():
                pass
        return time.perf_counter() - began


async def _measure(provider: str, broker: str, token: str) -> None:
    async with aiohttp.ClientSession() as session:
        bench = _Bench(session, {"x-api-key": token})
        many = f"{MESSAGES}?events={EVENTS}"
        rows = [
            ("first byte", "ms", 1e3, bench.first_byte, MESSAGES, MESSAGES, ROUNDS),
            (f"{EVENTS} events", "ms", 1e3, bench.whole, many, many, 10),
            (f"{BULK >> 20} MiB", "s", 1, bench.whole, IMAGES, "/openai/v1/images/generations", 3),
        ]
        print(f"{'':<14}{'direct':>10}{'broker':>10}")
        for name, unit, factor, work, direct_path, broker_path, rounds in rows:
            direct = await _median(work, provider + direct_path, rounds)
            through = await _median(work, broker + broker_path, rounds)
            print(f"{name:<14}{direct * factor:>10.2f}{through * factor:>10.2f} {unit}")


async def _broker(provider: str) -> None:
    async with rig(provider) as made:
        print(json.dumps([made.url, made.token]), flush=True)
        await asyncio.Event().wait()


async def main() -> None:
    """Provider and broker in processes of their own, as they are in life."""
    provider = f"http://127.0.0.1:{(port := free_port())}"
    async with _process("provider", str(port)) as serving, _process("broker", provider) as brokering:
        assert serving.stdout is not None
        assert brokering.stdout is not None
        await serving.stdout.readline()
        broker, token = json.loads(await brokering.stdout.readline())
        await _measure(provider, broker, token)


@asynccontextmanager
async def _process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.broker", *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["provider"]:
        asyncio.run(_provider(int(sys.argv[2])))
    elif sys.argv[1:2] == ["broker"]:
        asyncio.run(_broker(sys.argv[2]))
    else:
        asyncio.run(main())
