"""A real S3 server with authentication (moto, in a process of its own), and a proxy in front of it that can misbehave.

The server keeps the data; the proxy is what clients are told of. So a bucket can be out of reach, refuse, or fail, and
be back with everything in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import aiohttp
import boto3
from aiohttp import web
from botocore.config import Config

from tests.support.daemon import free_port

START_SECONDS = 60.0
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}


class S3Server(Protocol):
    """A real S3 server with a user on it."""

    url: str
    access_key_id: str
    secret_access_key: str

    def client(self) -> Any:
        """A client of the server itself."""


class MotoServer:
    """The server process; one serves a whole test session, with a bucket for each test."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.access_key_id = ""
        self.secret_access_key = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, make a user with keys, and switch authentication on."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "MOTO_PORT": str(self.port)},
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1):
                    break
            except OSError:
                assert self._process.poll() is None, "the S3 server did not start"
                assert time.monotonic() < deadline, "the S3 server does not answer"
                time.sleep(0.1)
        anybody: Any = boto3.client("iam", **self._client("nobody", "nothing"))
        anybody.create_user(UserName="moltinit")
        anybody.put_user_policy(UserName="moltinit", PolicyName="all", PolicyDocument=json.dumps(POLICY))
        key = anybody.create_access_key(UserName="moltinit")["AccessKey"]
        self.access_key_id, self.secret_access_key = key["AccessKeyId"], key["SecretAccessKey"]
        request = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth", data=b"0", method="POST", headers={"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request, timeout=10).read()

    def _client(self, access_key_id: str, secret_access_key: str) -> dict[str, Any]:
        return {
            "endpoint_url": self.url,
            "region_name": "us-east-1",
            "aws_access_key_id": access_key_id,
            "aws_secret_access_key": secret_access_key,
            "config": Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
        }

    def client(self) -> Any:
        """A client of the server itself, past the proxy."""
        return boto3.client("s3", **self._client(self.access_key_id, self.secret_access_key))

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)


_SERVE = """
import sys
from werkzeug.serving import make_server
from moto.server import DomainDispatcherApplication, create_backend_app
app = DomainDispatcherApplication(create_backend_app)
make_server("127.0.0.1", int(sys.argv[1]), app, threaded=True).serve_forever()
"""


@contextmanager
def moto_server() -> Iterator[MotoServer]:
    """A running server."""
    server = MotoServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


class Bucket:
    """One bucket, seen through a proxy on a port of its own."""

    def __init__(self, server: S3Server, prefix: str) -> None:
        self.server = server
        self.name = f"bucket-{uuid4().hex[:12]}"
        self.prefix = prefix
        self.port = free_port()
        self.endpoint_url = f"http://127.0.0.1:{self.port}"
        self.requests: Counter[str] = Counter()
        self.answer_with: int | None = None
        """A status that everything is answered with, or None."""
        self.lose_answers = 0
        """How many further writes take effect without an answer."""
        self._client = server.client()
        self._client.create_bucket(Bucket=self.name)
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    def settings(self) -> dict[str, str]:
        """The daemon's variables for this bucket."""
        return {
            "MOLTINIT_BUCKET_URL": f"s3://{self.name}/{self.prefix}".rstrip("/"),
            "MOLTINIT_S3_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.server.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.server.secret_access_key,
        }

    async def open(self) -> None:
        """Let clients reach it."""
        if self._runner is not None:
            return
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, auto_decompress=False)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def close(self) -> None:
        """Refuse connections; the data stays."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        self.requests[request.method] += 1
        if self.answer_with is not None:
            return web.Response(status=self.answer_with, text=_error(self.answer_with), content_type="application/xml")
        assert self._session is not None
        body = await request.read()
        # The signature covers the Host that the client wrote.
        headers = {name: value for name, value in request.headers.items() if name.lower() != "transfer-encoding"}
        url = self.server.url + request.raw_path
        async with self._session.request(
            request.method, _unchanged(url), headers=headers, data=body, allow_redirects=False
        ) as answer:
            content = await answer.read()
            if self.lose_answers and request.method == "PUT":
                self.lose_answers -= 1
                assert request.transport is not None
                request.transport.abort()
            kept = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in ("transfer-encoding", "connection", "date", "server")
            }
            if request.method != "HEAD":
                return web.Response(status=answer.status, headers=kept, body=content or None)
            head = web.StreamResponse(status=answer.status, headers=kept)
            await head.prepare(request)
            return head

    # -- past the proxy, with keys of the whole bucket

    def keys(self, prefix: str = "") -> list[str]:
        """Every key below `prefix`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def get(self, key: str) -> bytes:
        """An object."""
        return bytes(self._client.get_object(Bucket=self.name, Key=key)["Body"].read())

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self._client.put_object(Bucket=self.name, Key=key, Body=data)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._client.delete_object(Bucket=self.name, Key=key)

    def corrupt(self, key: str) -> None:
        """Flip bits in the middle of an object."""
        data = bytearray(self.get(key))
        for at in range(len(data) // 3, len(data) // 3 + min(32, len(data) - len(data) // 3)):
            data[at] ^= 0xFF
        self.put(key, bytes(data))

    def upload(self, directory: Path, prefix: str) -> None:
        """A directory, file by file, as a mirror would."""
        for path in sorted(directory.rglob("*")):
            if path.is_file() and not path.is_symlink():
                self.put(prefix + str(path.relative_to(directory)), path.read_bytes())


def _unchanged(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)


def _error(status: int) -> str:
    code = {403: "AccessDenied", 503: "SlowDown", 500: "InternalError"}.get(status, "Error")
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as told</Message></Error>"


@asynccontextmanager
async def bucket_on(server: S3Server, prefix: str = "agent") -> AsyncIterator[Bucket]:
    """A new bucket, open; closed at the end."""
    bucket = await asyncio.to_thread(Bucket, server, prefix)
    await bucket.open()
    try:
        yield bucket
    finally:
        await bucket.close()
