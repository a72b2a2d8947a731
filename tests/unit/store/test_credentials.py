"""Temporary R2 credentials, before a server that checks them as R2 says it does: signature, end, prefix, operation."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest
from aiohttp import web

from supervisor.errors import StoreRefused, StoreUnavailable
from supervisor.store.credentials import (
    RENEW_SECONDS,
    TTL_SECONDS,
    Credentials,
    FromApi,
    Scope,
    SignedHere,
    Temporary,
)
from supervisor.store.s3 import S3Store
from tests.support.clock import FakeClock

PARENT, SECRET, ACCOUNT = "parent-key-id", "the-parents-secret", "a" * 32


class R2:
    """Objects in memory behind R2's rules for temporary credentials."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.objects: dict[str, bytes] = {}
        self.host = ""
        self.tokens: set[str] = set()
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        bucket, _, key = request.path.lstrip("/").partition("/")
        operation = {"PUT": "PutObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}.get(
            request.method, "GetObject"
        )
        if request.method == "GET" and not key:
            operation, key = "ListObjectsV2", request.query.get("prefix", "")
        self.asked.append(operation)
        body = await request.read()
        if not self._allows(request, bucket, key, operation):
            return web.Response(status=403, text="<Error><Code>AccessDenied</Code></Error>")
        if operation == "PutObject":
            self.objects[key] = body
            return web.Response(headers={"ETag": '"e"'})
        if operation == "DeleteObject":
            self.objects.pop(key, None)
            return web.Response(status=204)
        if operation == "ListObjectsV2":
            return web.Response(text="<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        if key not in self.objects:
            return web.Response(status=404, text="<Error><Code>NoSuchKey</Code></Error>")
        return web.Response(body=self.objects[key], headers={"ETag": '"e"'})

    def _allows(self, request: web.Request, bucket: str, key: str, operation: str) -> bool:
        session = request.headers.get("X-Amz-Security-Token", "")
        token = base64.b64decode(session).decode().removeprefix("jwt/")
        signed, _, signature = token.rpartition(".")
        expected = base64.urlsafe_b64encode(hmac.digest(SECRET.encode(), signed.encode(), "sha256")).rstrip(b"=")
        if not hmac.compare_digest(expected.decode(), signature):
            return False
        self.tokens.add(token)
        claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
        temporary = hashlib.sha256(token.encode()).hexdigest()
        prefixes = claims.get("paths", {}).get("prefixPaths", [""])
        return (
            claims["iss"] == PARENT
            and claims["sub"] == ACCOUNT
            and claims["aud"] == self.host
            and claims["bucket"] == bucket
            and claims["exp"] > self.clock.time()
            and operation in claims["actions"]
            and any(key.startswith(prefix) for prefix in prefixes)
            and _signature(request, temporary) in request.headers["Authorization"]
        )


def _signature(request: web.Request, secret: str) -> str:
    """AWS Signature Version 4 of a request as it arrived."""
    fields = dict(part.strip().split("=", 1) for part in request.headers["Authorization"].split(" ", 1)[1].split(","))
    _, day, region, service, _ = fields["Credential"].split("/")
    names = fields["SignedHeaders"].split(";")
    query = "&".join(
        f"{quote(n, safe='-_.~')}={quote(v, safe='-_.~')}"
        for n, v in sorted(parse_qsl(request.query_string, keep_blank_values=True))
    )
    canonical = "\n".join(
        [
            request.method,
            request.raw_path.partition("?")[0],
            query,
            *(f"{name}:{request.headers[name].strip()}" for name in names),
            "",
            fields["SignedHeaders"],
            request.headers["X-Amz-Content-Sha256"],
        ]
    )
    scope = f"{day}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{request.headers['X-Amz-Date']}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


@asynccontextmanager
async def served(handler: Any) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "http://127.0.0.1:{1}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


def signed(clock: FakeClock, url: str, *, prefix: str = "agent") -> Temporary:
    scope = Scope(ACCOUNT, "bucket", prefix, url.removeprefix("http://"))
    return Temporary(SignedHere(scope, parent_key_id=PARENT, parent_secret=SECRET), clock)


async def test_what_is_signed_here_opens_the_prefix_and_nothing_beside_it() -> None:
    clock = FakeClock()
    r2 = R2(clock)
    async with served(r2.answer) as url:
        r2.host = url.removeprefix("http://")
        mine = S3Store("bucket", "agent", endpoint_url=url, credentials=signed(clock, url))
        await mine.put("HEAD", b"state")
        assert (await mine.get("HEAD")).data == b"state"
        assert [info async for info in mine.list("")] == []
        await mine.delete(["HEAD"])
        assert r2.objects == {}
        beside = S3Store("bucket", "agent-2", endpoint_url=url, credentials=signed(clock, url))
        for attempt in (beside.put("x", b""), beside.get("x"), beside.delete(["x"])):
            with pytest.raises(StoreRefused):
                await attempt
        other = S3Store("other", "agent", endpoint_url=url, credentials=signed(clock, url))
        with pytest.raises(StoreRefused):
            await other.get("HEAD")
        for store in (mine, beside, other):
            await store.close()


async def test_credentials_are_made_anew_before_they_end_and_work_goes_on() -> None:
    clock = FakeClock()
    r2 = R2(clock)
    async with served(r2.answer) as url:
        r2.host = url.removeprefix("http://")
        store = S3Store("bucket", "agent", endpoint_url=url, credentials=signed(clock, url))
        for number in range(4):
            await store.put(f"key-{number}", b"")
            await store.put(f"key-{number}", b"")
            await clock.advance(TTL_SECONDS - RENEW_SECONDS + 1)
        assert len(r2.tokens) == 4
        await store.close()


async def test_a_refusal_makes_new_credentials() -> None:
    clock = FakeClock()
    provider = signed(clock, "http://x")
    first = await provider.get()
    assert await provider.get() is first
    provider.forget()
    await clock.advance(1)
    assert await provider.get() is not first
    assert SECRET not in repr(first)
    assert first.session_token not in repr(first)


class Api:
    """Cloudflare's API, as documented."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.status = 200

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers["Authorization"], await request.json()))
        result = {"accessKeyId": "k", "secretAccessKey": f"s{len(self.asked)}", "sessionToken": "t"}
        return web.json_response({"result": result, "success": True, "errors": []}, status=self.status)


async def test_the_api_is_asked_for_the_prefix_alone_and_an_outage_is_outlived() -> None:
    clock = FakeClock()
    api = Api()
    async with served(api.answer) as url:
        scope = Scope(ACCOUNT, "bucket", "agent/", "host")
        provider = Temporary(FromApi(scope, parent_key_id=PARENT, api_token="the-api-token", api=url), clock)
        first = await provider.get()
        assert first == Credentials("k", "s1", "t", clock.time() + TTL_SECONDS)
        assert api.asked == [
            (
                f"/accounts/{ACCOUNT}/r2/temp-access-credentials",
                "Bearer the-api-token",
                {
                    "bucket": "bucket",
                    "parentAccessKeyId": PARENT,
                    "permission": "object-read-write",
                    "ttlSeconds": TTL_SECONDS,
                    "prefixes": ["agent/"],
                },
            )
        ]
        await clock.advance(TTL_SECONDS - RENEW_SECONDS + 1)
        api.status = 503
        assert await provider.get() is first, "they still last"
        await clock.advance(RENEW_SECONDS)
        with pytest.raises(StoreUnavailable):
            await provider.get()
        api.status = 403
        with pytest.raises(StoreRefused) as caught:
            await provider.get()
        assert "the-api-token" not in str(caught.value)
        api.status = 200
        assert (await provider.get()).secret_access_key.startswith("s")
