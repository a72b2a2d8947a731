"""`wrangler dev` with podman in docker's place: Worker, Durable Object and container on this machine."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
from aiohttp import web

from tests.support.container import IMAGE, podman
from tests.support.daemon import free_port

PROJECT = Path(__file__).parents[2]
WORKER = PROJECT / "image" / "worker"
START_SECONDS = 180.0
AUDIENCE = "aud-of-the-application"


class Team:
    """Cloudflare Access on loopback: a key, and tokens signed with it."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric import rsa

        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.url = ""

    def certs(self) -> dict[str, object]:
        """The answer of `/cdn-cgi/access/certs`."""
        numbers = self._key.public_key().public_numbers()
        size = (numbers.n.bit_length() + 7) // 8
        key = {"kty": "RSA", "kid": "key-1", "alg": "RS256", "use": "sig"}
        return {"keys": [{**key, "n": _part(numbers.n.to_bytes(size, "big")), "e": _part(b"\x01\x00\x01")}]}

    def token(self, email: str) -> str:
        """A visitor's token."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        now = int(time.time())
        claims = {"iss": self.url, "aud": [AUDIENCE], "iat": now, "exp": now + 3600, "email": email, "sub": "1"}
        head = _part(json.dumps({"alg": "RS256", "kid": "key-1"}).encode())
        body = f"{head}.{_part(json.dumps(claims).encode())}"
        return f"{body}.{_part(self._key.sign(body.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@asynccontextmanager
async def team() -> AsyncIterator[Team]:
    """Access's keys, served on loopback."""
    made = Team()
    app = web.Application()

    async def certs(request: web.Request) -> web.Response:
        return web.json_response(made.certs())

    app.router.add_get("/cdn-cgi/access/certs", certs)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def reachable_by_containers(port: int) -> AsyncIterator[str]:
    """A port of loopback under an address that containers on podman's bridge reach; byte for byte."""

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    # In the network namespace of the test, which nothing outside reaches.
    server = await asyncio.start_server(join, "0.0.0.0", 0)
    try:
        yield f"http://10.88.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def wrangler(place: Path, variables: Mapping[str, str]) -> AsyncIterator[str]:
    """The Worker's address. Its containers are of the image under test, with the echo agent."""
    place.mkdir(parents=True)
    shutil.copytree(WORKER / "src", place / "src")
    (place / "node_modules").symlink_to(WORKER / "node_modules")
    shutil.copy(WORKER / "package.json", place)
    config = (WORKER / "wrangler.jsonc").read_text()
    config = config.replace('"../../Dockerfile"', '"./Dockerfile"').replace('"../.."', '"."')
    (place / "wrangler.jsonc").write_text(config)
    (place / "Dockerfile").write_text(f"FROM {IMAGE}\nENV MOLTINIT_AGENT=echo\nEXPOSE 8080\n")
    (place / ".dev.vars").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    socket, port = place / "podman.sock", free_port()
    environment = {
        **os.environ,
        "DOCKER_HOST": f"unix://{socket}",
        "WRANGLER_DOCKER_BIN": str(PROJECT / "tests/image/docker-over-podman"),
        "WRANGLER_SEND_METRICS": "false",
        "CI": "true",
    }
    with (place / "wrangler.log").open("wb") as log:
        service = await asyncio.create_subprocess_exec(
            "podman", "system", "service", "--time=0", f"unix://{socket}", stdout=log, stderr=log
        )
        dev = await asyncio.create_subprocess_exec(
            "npx", "wrangler", "dev", "--ip=127.0.0.1", f"--port={port}", "--inspector-port=0",
            cwd=place, env=environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            await _answers(f"{url}/sandbox-health", place / "wrangler.log")
            yield url
        finally:
            with suppress(ProcessLookupError):
                os.killpg(dev.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(20):
                    await dev.wait()
            with suppress(ProcessLookupError):
                os.killpg(dev.pid, signal.SIGKILL)
            await dev.wait()
            # They outlive the engine's client.
            _, left = await podman("ps", "--all", "--quiet", "--filter=name=workerd-moltbot-sandbox")
            for container in left.split():
                await podman("rm", "--force", "--time=0", container)
            service.terminate()
            await service.wait()


async def _answers(url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    async with aiohttp.ClientSession() as session:
        while time.monotonic() < deadline:
            with suppress(aiohttp.ClientError, OSError):
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.5)
    raise AssertionError(f"wrangler dev does not answer:\n{log.read_text()[-3000:]}")
