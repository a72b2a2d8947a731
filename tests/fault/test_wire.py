"""Faults on the wire between the real driver and a real S3 server, each against saving and against restoring."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from aiohttp import web

from supervisor.clock import SystemClock
from supervisor.errors import Fenced, MoltinitError, StoreRefused
from supervisor.store.open import BucketLocation, open_store
from supervisor.store.retry import RetryingStore, RetryPolicy
from tests.support.engine import Life, picture
from tests.support.s3 import Bucket
from tests.support.trees import make_odd_tree, write
from tests.support.wire import Fault, Forward, Wire, says, wire_before

QUICK = RetryPolicy(deadline=12.0, base=0.02, cap=0.2, attempt=1.5, write_interval=0.0)


def _cut(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


async def reset_before(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    _cut(request)
    return web.Response()


async def reset_after(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    await forward()
    _cut(request)
    return web.Response()


async def stall(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    await asyncio.sleep(3.0)
    return await forward()


async def stall_after(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    answer = await forward()
    await asyncio.sleep(3.0)
    return answer


async def twice(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    await forward()
    return await forward()


async def truncated(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    answer = await forward()
    assert isinstance(answer, web.Response)
    data = bytes(answer.body) if isinstance(answer.body, bytes) else b""
    if request.method != "GET" or len(data) < 2:
        return answer
    short = web.StreamResponse(status=answer.status, headers={**answer.headers, "Content-Length": str(len(data))})
    await short.prepare(request)
    await short.write(data[: len(data) // 2])
    _cut(request)
    return short


async def trickle(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    answer = await forward()
    assert isinstance(answer, web.Response)
    data = bytes(answer.body) if isinstance(answer.body, bytes) else b""
    if request.method != "GET":
        return answer
    slow = web.StreamResponse(status=answer.status, headers=answer.headers)
    await slow.prepare(request)
    for start in range(0, len(data), 1 + len(data) // 5):
        await slow.write(data[start : start + 1 + len(data) // 5])
        await asyncio.sleep(0.05)
    return slow


FAULTS: dict[str, Fault] = {
    "500": says(500, "InternalError"),
    "503": says(503, "SlowDown"),
    "429": says(429, "TooManyRequests", Retry_After="0"),
    "408": says(408, "RequestTimeout"),
    "reset before it took effect": reset_before,
    "reset after it took effect": reset_after,
    "stall before": stall,
    "stall after": stall_after,
    "delivered twice": twice,
    "truncated body": truncated,
    "trickle": trickle,
}


@pytest.fixture
async def wire(bucket: Bucket) -> AsyncIterator[Wire]:
    """The proxy, running."""
    async with wire_before(bucket.server.url) as wire:
        yield wire


@pytest.fixture
async def store(wire: Wire, bucket: Bucket) -> AsyncIterator[RetryingStore]:
    """The real driver, behind the proxy."""
    settings = bucket.settings()
    store = open_store(
        BucketLocation(
            url=settings["MOLTINIT_BUCKET_URL"],
            endpoint_url=wire.url,
            region="us-east-1",
            access_key_id=settings["AWS_ACCESS_KEY_ID"],
            secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
        ),
        clock=SystemClock(),
        random=Random(1),
        policy=QUICK,
    )
    yield store
    await store.close()


async def saved(store: RetryingStore, place: Path) -> Life:
    """A life with one snapshot."""
    life = Life(store, place)
    await life.boot()
    make_odd_tree(life.root, 30)
    (life.root / "a-fifo").unlink()
    await life.engine.take("change")
    return life


@pytest.mark.parametrize("name", FAULTS)
async def test_a_snapshot_survives_it_and_is_committed_once(
    wire: Wire, store: RetryingStore, tmp_path: Path, name: str
) -> None:
    life = await saved(store, tmp_path / "a")
    write(life.root / "new", b"content" * 100)
    wire.next(FAULTS[name], times=3)  # pack, manifest and HEAD meet it
    taken = await life.engine.take("change")
    assert wire.left == 0
    assert taken.record is not None
    assert taken.record.sequence == 2
    wire.next(FAULTS[name], times=1)
    assert [r.sequence for r in (await life.engine.refresh()).snapshots] == [1, 2]
    after = Life(store, tmp_path / "b")
    await after.boot()
    assert picture(after.root) == picture(life.root)


@pytest.mark.parametrize("name", FAULTS)
async def test_head_meets_it_alone_and_a_lost_answer_is_no_fence(
    wire: Wire, store: RetryingStore, tmp_path: Path, name: str
) -> None:
    life = await saved(store, tmp_path / "a")
    wire.next(FAULTS[name], times=1)
    record = await life.engine.annotate(1, note="noted")  # one write of HEAD and nothing else
    assert record.note == "noted"
    assert (await life.engine.refresh()).snapshots[0].note == "noted"


@pytest.mark.parametrize("name", FAULTS)
async def test_a_restore_survives_it(wire: Wire, store: RetryingStore, tmp_path: Path, name: str) -> None:
    first = await saved(store, tmp_path / "a")
    await first.engine.release()
    second = Life(store, tmp_path / "b")
    await second.engine.claim()
    wire.next(FAULTS[name], times=2)
    assert (await second.engine.bring_back()).origin == "restored"
    assert picture(second.root) == picture(first.root)


@pytest.mark.parametrize("code", ["ExpiredToken", "RequestTimeTooSkewed", "AccessDenied", "SignatureDoesNotMatch"])
async def test_a_refusal_is_told_at_once_and_commits_nothing(
    wire: Wire, store: RetryingStore, tmp_path: Path, code: str
) -> None:
    life = await saved(store, tmp_path / "a")
    write(life.root / "new", b"content")
    wire.next(says(403, code), times=1000)
    with pytest.raises(StoreRefused):
        await life.engine.take("change")
    wire.left = 0
    assert (await life.engine.refresh()).sequence == 1
    assert (await life.engine.take("change")).record is not None


async def test_a_fence_is_never_taken_for_a_lost_answer(wire: Wire, store: RetryingStore, tmp_path: Path) -> None:
    life = await saved(store, tmp_path / "a")
    other = Life(store, tmp_path / "b")
    await other.engine.claim()
    wire.next(reset_after, times=2)
    with pytest.raises(Fenced):
        await life.engine.annotate(1, note="too late")
    assert (await other.engine.refresh()).snapshots[0].note == ""


async def test_a_bucket_that_stays_silent_ends_in_an_error_and_the_next_snapshot_has_it_all(
    wire: Wire, store: RetryingStore, tmp_path: Path
) -> None:
    life = await saved(store, tmp_path / "a")
    write(life.root / "new", b"content")
    wire.next(reset_after, times=10_000)
    with pytest.raises(MoltinitError) as caught:
        await life.engine.take("change")
    assert caught.value.code == "bucket-unavailable"
    wire.left = 0
    await life.engine.take("change")
    after = Life(store, tmp_path / "b")
    await after.boot()
    assert (after.root / "new").read_bytes() == b"content"
