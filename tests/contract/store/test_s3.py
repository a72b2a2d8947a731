"""An S3 server that is not at its best."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from supervisor.errors import StoreRefused, StoreUnavailable
from supervisor.store.credentials import Credentials, Fixed
from supervisor.store.s3 import S3Store
from tests.support.daemon import free_port
from tests.support.s3 import Bucket, MotoServer


@asynccontextmanager
async def s3_store(endpoint_url: str, server: MotoServer, bucket: str, secret: str = "") -> AsyncIterator[S3Store]:
    store = S3Store(
        bucket,
        "agent",
        endpoint_url=endpoint_url,
        credentials=Fixed(Credentials(server.access_key_id, secret or server.secret_access_key)),
        silence_seconds=2.0,
    )
    try:
        yield store
    finally:
        await store.close()


async def test_a_wrong_secret_is_refused_and_shown_nowhere(bucket: Bucket) -> None:
    wrong = "a-wrong-secret-that-nobody-should-see"
    async with s3_store(bucket.endpoint_url, bucket.server, bucket.name, wrong) as store:
        with pytest.raises(StoreRefused) as caught:
            await store.get("HEAD")
        assert wrong not in str(caught.value)
        assert wrong not in repr(store)


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_server_in_trouble_is_unavailable(bucket: Bucket, status: int) -> None:
    async with s3_store(bucket.endpoint_url, bucket.server, bucket.name) as store:
        bucket.answer_with = status
        for operation in (store.get("HEAD"), store.put("k", b"x"), store.stat("HEAD"), store.put_if_absent("k", b"")):
            with pytest.raises(StoreUnavailable):
                await operation


async def test_nobody_there_is_unavailable(s3: MotoServer) -> None:
    async with s3_store(f"http://127.0.0.1:{free_port()}", s3, "bucket") as store:
        with pytest.raises(StoreUnavailable):
            await store.get("HEAD")


async def test_a_name_that_does_not_resolve_is_unavailable(s3: MotoServer) -> None:
    async with s3_store("http://no-such-host.invalid:9000", s3, "bucket") as store:
        with pytest.raises(StoreUnavailable, match="no-such-host"):
            await store.get("HEAD")


async def _badly(answer: bytes) -> tuple[asyncio.Server, str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_answer_that_breaks_off_is_not_taken_for_the_object(s3: MotoServer) -> None:
    head = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 100\r\n\r\n'
    server, url = await _badly(head + b"only this")
    async with server, s3_store(url, s3, "bucket") as store:
        with pytest.raises(StoreUnavailable):
            await store.get("k")


async def test_a_server_that_keeps_silent_is_unavailable(s3: MotoServer) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, s3_store(url, s3, "bucket") as store:
        with pytest.raises(StoreUnavailable):
            await store.get("k")
