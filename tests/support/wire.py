"""The wire to an S3 server, with somebody on it who meddles."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from yarl import URL

Forward = Callable[[], Awaitable[web.StreamResponse]]
Fault = Callable[["Wire", web.Request, bytes, Forward], Awaitable[web.StreamResponse]]


@dataclass
class Wire:
    """A proxy before the S3 server that treats the next requests as the fault says."""

    upstream: str
    session: aiohttp.ClientSession
    fault: Fault | None = None
    left: int = 0
    seen: list[str] = field(default_factory=list)
    url: str = ""

    def next(self, fault: Fault, times: int = 2) -> None:
        """So many requests meet the fault; the rest pass."""
        self.fault, self.left = fault, times

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(f"{request.method} {request.path}")

        async def forward() -> web.StreamResponse:
            return await self.forward(request, body)

        if self.fault is not None and self.left > 0:
            self.left -= 1
            return await self.fault(self, request, body, forward)
        return await forward()

    async def forward(self, request: web.Request, body: bytes) -> web.Response:
        """To the real server, and its answer."""
        async with self.session.request(
            request.method,
            URL(self.upstream + request.raw_path, encoded=True),
            data=body,
            headers=request.headers,
            allow_redirects=False,
        ) as answer:
            data = await answer.read()
            kept = {
                k: v for k, v in answer.headers.items() if k.lower() not in ("transfer-encoding", "content-encoding")
            }
            return web.Response(status=answer.status, body=data, headers=kept)


def says(status: int, code: str, **headers: str) -> Fault:
    async def fault(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
        text = f"<Error><Code>{code}</Code><Message>m</Message></Error>"
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=text.encode(), headers={"Content-Type": "application/xml", **told})

    return fault


@dataclass
class StrictR2:
    """R2's documented limits, which no server that runs here has: one write a second to a key (429), and no checksum
    trailers or chunked signatures (501). See developers.cloudflare.com/r2/platform/limits and /r2/api/s3."""

    written: dict[str, float] = field(default_factory=dict)
    refused: int = 0

    async def __call__(self, wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
        streaming = request.headers.get("x-amz-content-sha256", "").startswith("STREAMING")
        if (
            streaming
            or "x-amz-trailer" in request.headers
            or "aws-chunked" in request.headers.get("Content-Encoding", "")
        ):
            return await says(501, "NotImplemented")(wire, request, body, forward)
        if request.method == "PUT":
            now = time.monotonic()
            if now - self.written.get(request.path, -1.0) < 1.0:
                self.refused += 1
                return await says(429, "TooManyRequests")(wire, request, body, forward)
            self.written[request.path] = now
        return await forward()


@asynccontextmanager
async def wire_before(upstream: str) -> AsyncIterator[Wire]:
    """A proxy on loopback before a server."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        wire = Wire(upstream, session)
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", wire.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        wire.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield wire
        finally:
            await runner.cleanup()
