"""What a network does beyond losing an answer: it delivers late, twice, at the wrong time or something else entirely;
and refusals while a tree is brought back. `test_wire.py` has the plain faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from aiohttp import web
from multidict import CIMultiDict

from supervisor.clock import SystemClock
from supervisor.errors import BucketNotFound, Fenced, MoltinitError, StoreError, StoreRefused, StoreUnavailable
from supervisor.snapshot.format import decode_head
from supervisor.store.open import BucketLocation, open_store
from supervisor.store.retry import RetryingStore, RetryPolicy
from tests.support.daemon import free_port
from tests.support.engine import Life, picture
from tests.support.s3 import Bucket
from tests.support.trees import write
from tests.support.wire import Fault, Forward, Wire, says, wire_before

QUICK = RetryPolicy(deadline=8.0, base=0.02, cap=0.1, attempt=1.0, write_interval=0.0)
SHORT = RetryPolicy(deadline=2.0, base=0.02, cap=0.1, attempt=1.5, unknown_size=0, write_interval=0.0)


def at(fault: Fault, *, method: str = "", part: str = "", times: int = 10**6) -> Fault:
    """The fault, but only for so many requests of this method whose path has this part; the others pass."""
    left = times

    async def chosen(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
        nonlocal left
        if left and method in ("", request.method) and part in request.path:
            left -= 1
            return await fault(wire, request, body, forward)
        return await forward()

    return chosen


def once_each(fault: Fault, method: str) -> Fault:
    """The fault, for the first request of this method to each key."""
    met: set[str] = set()

    async def chosen(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
        if request.method != method or request.path in met:
            return await forward()
        met.add(request.path)
        return await fault(wire, request, body, forward)

    return chosen


def cut(request: web.Request) -> web.Response:
    """End the connection."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def plain(forward: Forward) -> web.Response:
    """The server's answer, whole."""
    answer = await forward()
    assert isinstance(answer, web.Response)
    return answer


def content(answer: web.Response) -> bytes:
    """Its bytes."""
    return answer.body if isinstance(answer.body, bytes) else b""


def without(answer: web.Response, *names: str) -> CIMultiDict[str]:
    """Its headers but these."""
    kept = CIMultiDict(answer.headers)
    for name in names:
        kept.popall(name, None)
    return kept


async def lost_request(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    return cut(request)


async def lost_answer(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    await forward()
    return cut(request)


async def slow_first_byte(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    await asyncio.sleep(0.6)
    return await forward()


async def stall(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    await asyncio.sleep(1.3)
    return cut(request)


async def at_the_same_time(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    first, _ = await asyncio.gather(forward(), forward())
    return first


async def wrong_etag(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    answer = await plain(forward)
    headers = without(answer, "ETag", "Content-Length", "Content-Type")
    return web.Response(
        status=answer.status,
        body=content(answer),
        headers={**headers, "ETag": '"0123456789abcdef0123456789abcdef"'},
        content_type=answer.content_type,
    )


async def no_etag(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    answer = await plain(forward)
    return web.Response(
        status=answer.status, body=content(answer), headers=without(answer, "ETag", "Content-Length", "Date", "Server")
    )


async def short_and_says_so(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    answer = await plain(forward)
    headers = without(answer, "Content-Length", "Date", "Server")
    return web.Response(status=answer.status, body=content(answer)[:-5], headers=headers)


async def a_flipped_bit(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    answer = await plain(forward)
    data = bytearray(content(answer))
    data[len(data) // 2] ^= 1
    headers = without(answer, "Content-Length", "Date", "Server")
    return web.Response(status=answer.status, body=bytes(data), headers=headers)


async def log_in_here(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
    """What a captive portal says to everything."""
    return web.Response(status=200, text="<html><body>Log in to use this network</body></html>")


GENTLE: dict[str, Fault] = {
    "slow first byte": slow_first_byte,
    "429 with Retry-After": says(429, "TooManyRequests", Retry_After="1"),
    "503 with Retry-After": says(503, "SlowDown", Retry_After="1"),
    "an error that is no XML": says(500, "<<<"),
    "delivered twice at the same time": at_the_same_time,
    "wrong ETag": wrong_etag,
}
REFUSALS: dict[str, tuple[Fault, type[StoreError]]] = {
    "expired credentials": (says(403, "ExpiredToken"), StoreRefused),
    "a wrong clock": (says(403, "RequestTimeTooSkewed"), StoreRefused),
    "no rights": (says(403, "AccessDenied"), StoreRefused),
    "unauthorised": (says(401, "Unauthorized"), StoreRefused),
    "AWS's 400 for a token": (says(400, "ExpiredToken"), StoreRefused),
    "another region": (says(301, "PermanentRedirect"), StoreRefused),
    "not implemented": (says(501, "NotImplemented"), StoreRefused),
    "no such bucket": (says(404, "NoSuchBucket"), BucketNotFound),
    "later, for ever": (says(503, "SlowDown"), StoreUnavailable),
}


@pytest.fixture
async def wire(bucket: Bucket) -> AsyncIterator[Wire]:
    """The proxy, running."""
    async with wire_before(bucket.server.url) as wire:
        yield wire


def opened(url: str, bucket: Bucket, policy: RetryPolicy = QUICK) -> RetryingStore:
    """The real driver."""
    location = BucketLocation(
        url=bucket.settings()["MOLTINIT_BUCKET_URL"],
        endpoint_url=url,
        region="us-east-1",
        access_key_id=bucket.server.access_key_id,
        secret_access_key=bucket.server.secret_access_key,
    )
    return open_store(location, clock=SystemClock(), random=Random(1), policy=policy)


@pytest.fixture
async def store(wire: Wire, bucket: Bucket) -> AsyncIterator[RetryingStore]:
    """The real driver, behind the proxy."""
    store = opened(wire.url, bucket)
    yield store
    await store.close()


@pytest.fixture
async def elsewhere(wire: Wire, bucket: Bucket) -> AsyncIterator[RetryingStore]:
    """The driver of another machine."""
    store = opened(wire.url, bucket)
    yield store
    await store.close()


@pytest.fixture
async def hasty(wire: Wire, bucket: Bucket) -> AsyncIterator[RetryingStore]:
    """The same with little patience."""
    store = opened(wire.url, bucket, SHORT)
    yield store
    await store.close()


async def saved(store: RetryingStore, place: Path) -> Life:
    """A life with one snapshot."""
    life = Life(store, place)
    await life.boot()
    for number in range(5):
        write(life.root / f"folder/file{number}", f"content {number} ".encode() * 50)
    await life.engine.take("change")
    return life


def sequences(bucket: Bucket) -> list[int]:
    """What HEAD lists, past the proxy."""
    return [record.sequence for record in decode_head(bucket.get("agent/HEAD")).snapshots]


def damaged(bucket: Bucket) -> list[int]:
    """What HEAD calls damaged."""
    return [record.sequence for record in decode_head(bucket.get("agent/HEAD")).snapshots if record.damaged]


# -- what passes


@pytest.mark.parametrize("name", GENTLE)
async def test_a_snapshot_is_committed_once_and_restored_as_it_was(
    wire: Wire, store: RetryingStore, bucket: Bucket, tmp_path: Path, name: str
) -> None:
    life = await saved(store, tmp_path / "a")
    write(life.root / "new", b"content" * 100)
    wire.next(once_each(GENTLE[name], "PUT"), times=10**6)  # pack, manifest and HEAD
    assert (await life.engine.take("change")).record is not None
    wire.left = 0
    assert sequences(bucket) == [1, 2]
    assert (await life.engine.take("change")).record is None
    after = Life(store, tmp_path / "b")
    await after.boot()
    assert picture(after.root) == picture(life.root)


@pytest.mark.parametrize("name", GENTLE)
async def test_a_tree_comes_back_although_every_read_meets_it_once(
    wire: Wire, store: RetryingStore, bucket: Bucket, tmp_path: Path, name: str
) -> None:
    life = await saved(store, tmp_path / "a")
    await life.engine.release()
    wire.next(once_each(GENTLE[name], "GET"), times=10**6)
    after = Life(store, tmp_path / "b")
    assert (await after.boot()).origin == "restored"
    assert picture(after.root) == picture(life.root)
    assert damaged(bucket) == []


@pytest.mark.parametrize(("fault", "method"), [(lost_answer, "PUT"), (lost_request, "PUT"), (lost_request, "GET")])
async def test_a_whole_life_takes_every_step_once_although_each_is_lost_once(
    wire: Wire, store: RetryingStore, bucket: Bucket, tmp_path: Path, fault: Fault, method: str
) -> None:
    wire.next(once_each(fault, method), times=10**6)
    life = await saved(store, tmp_path / "a")
    assert life.engine.epoch == 1
    wire.next(once_each(fault, method), times=10**6)  # HEAD once more
    await life.engine.release()
    assert decode_head(bucket.get("agent/HEAD")).state == "released"
    wire.next(once_each(fault, method), times=10**6)
    after = Life(store, tmp_path / "b")
    assert (await after.boot()).origin == "restored"
    assert after.engine.epoch == 2
    assert picture(after.root) == picture(life.root)
    assert sequences(bucket) == [1]
    assert bucket.keys("agent/probe") == []


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_network_that_does_whatever_it_likes_loses_and_doubles_nothing(
    wire: Wire, bucket: Bucket, tmp_path: Path, seed: int
) -> None:
    rng = Random(seed)
    faults = [
        lost_answer,
        lost_request,
        at_the_same_time,
        wrong_etag,
        says(500, "InternalError"),
        says(503, "SlowDown"),
        says(429, "TooManyRequests"),
    ]

    async def any_fault(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
        if rng.random() < 0.4:
            return await rng.choice(faults)(wire, request, body, forward)
        return await forward()

    store = opened(wire.url, bucket, RetryPolicy(deadline=30.0, base=0.01, cap=0.03, attempt=2.0, write_interval=0.0))
    try:
        wire.next(any_fault, times=10**6)
        life = await saved(store, tmp_path / "a")
        for number in range(4):
            write(life.root / f"new{number}", rng.randbytes(500))
            assert (await life.engine.take("change")).record is not None
        await life.engine.release()
        after = Life(store, tmp_path / "b")
        assert (await after.boot()).origin == "restored"
        assert picture(after.root) == picture(life.root)
        assert sequences(bucket) == [1, 2, 3, 4, 5]
        assert damaged(bucket) == []
    finally:
        await store.close()


# -- late


async def test_a_write_of_head_that_arrives_after_newer_ones_changes_nothing(
    wire: Wire, store: RetryingStore, bucket: Bucket, tmp_path: Path
) -> None:
    life = await saved(store, tmp_path / "a")
    held: list[tuple[web.Request, bytes]] = []

    async def hold(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
        held.append((request, body))
        return cut(request)

    wire.next(at(hold, method="PUT", part="HEAD", times=1), times=10**6)
    for number in range(2):
        write(life.root / f"new{number}", b"content")
        await life.engine.take("change")
    before = bucket.get("agent/HEAD")
    assert (await wire.forward(*held[0])).status == 412
    assert bucket.get("agent/HEAD") == before
    assert sequences(bucket) == [1, 2, 3]


async def test_a_write_of_head_that_arrives_after_another_claim_changes_nothing(
    wire: Wire, store: RetryingStore, elsewhere: RetryingStore, bucket: Bucket, tmp_path: Path
) -> None:
    life = await saved(store, tmp_path / "a")
    other = Life(elsewhere, tmp_path / "b")
    held: list[tuple[web.Request, bytes]] = []

    async def hold(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
        held.append((request, body))
        await other.engine.claim()
        return cut(request)

    write(life.root / "new", b"content")
    wire.next(at(hold, method="PUT", part="HEAD", times=1), times=10**6)
    with pytest.raises(Fenced) as caught:
        await life.engine.take("change")
    assert "went through" not in caught.value.message
    before = bucket.get("agent/HEAD")
    assert (await wire.forward(*held[0])).status == 412
    assert bucket.get("agent/HEAD") == before
    assert (await other.engine.bring_back()).origin == "restored"
    assert not (other.root / "new").exists()


async def test_a_write_that_arrives_between_the_look_and_the_repetition_is_known_as_ones_own(
    wire: Wire, store: RetryingStore, bucket: Bucket, tmp_path: Path
) -> None:
    life = await saved(store, tmp_path / "a")
    held: list[tuple[web.Request, bytes]] = []

    async def hold(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
        if not held:
            held.append((request, body))
            return cut(request)
        if len(held) == 1:  # the repetition: the first one overtakes it
            held.append((request, body))
            assert (await wire.forward(*held[0])).status == 200
        return await forward()

    write(life.root / "new", b"content")
    wire.next(at(hold, method="PUT", part="HEAD"), times=10**6)
    taken = await life.engine.take("change")
    assert taken.record is not None
    assert len(held) == 2
    assert sequences(bucket) == [1, 2]


async def test_a_claim_between_ones_own_commit_and_its_lost_answer_is_a_fence_that_tells_of_the_commit(
    wire: Wire, store: RetryingStore, elsewhere: RetryingStore, bucket: Bucket, tmp_path: Path
) -> None:
    life = await saved(store, tmp_path / "a")
    other = Life(elsewhere, tmp_path / "b")

    async def claim_before_the_answer(
        wire: Wire, request: web.Request, body: bytes, forward: Forward
    ) -> web.StreamResponse:
        await forward()
        await other.engine.claim()
        return cut(request)

    write(life.root / "new", b"content")
    wire.next(at(claim_before_the_answer, method="PUT", part="HEAD", times=1), times=10**6)
    with pytest.raises(Fenced, match="went through"):
        await life.engine.take("change")
    assert sequences(bucket) == [1, 2]
    await other.engine.bring_back()
    assert (other.root / "new").read_bytes() == b"content"


async def test_a_precondition_that_failed_for_no_reason_is_no_fence(
    wire: Wire, store: RetryingStore, bucket: Bucket, tmp_path: Path
) -> None:
    life = await saved(store, tmp_path / "a")
    write(life.root / "new", b"content")
    wire.next(at(says(412, "PreconditionFailed"), method="PUT", part="HEAD", times=2), times=10**6)
    assert (await life.engine.take("change")).record is not None
    assert sequences(bucket) == [1, 2]


# -- refusals


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refused_snapshot_says_why_and_leaves_the_one_before(
    wire: Wire, hasty: RetryingStore, bucket: Bucket, tmp_path: Path, name: str
) -> None:
    fault, kind = REFUSALS[name]
    life = await saved(hasty, tmp_path / "a")
    as_saved = picture(life.root)
    write(life.root / "new", b"content")
    wire.next(at(fault), times=10**6)
    with pytest.raises(kind) as caught:
        await life.engine.take("change")
    assert type(caught.value) is kind
    assert caught.value.message
    if name == "a wrong clock":
        assert "clock" in caught.value.hint
    wire.left = 0
    assert sequences(bucket) == [1]
    after = Life(hasty, tmp_path / "b")
    await after.boot()
    assert picture(after.root) == as_saved


@pytest.mark.parametrize("part", ["manifests/", "packs/"])
@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refused_restore_says_why_and_blames_no_snapshot(
    wire: Wire, hasty: RetryingStore, bucket: Bucket, tmp_path: Path, name: str, part: str
) -> None:
    fault, kind = REFUSALS[name]
    life = await saved(hasty, tmp_path / "a")
    await life.engine.release()
    after = Life(hasty, tmp_path / "b")
    await after.engine.claim()
    wire.next(at(fault, method="GET", part=part), times=10**6)
    with pytest.raises(kind) as caught:
        await after.engine.bring_back()
    assert type(caught.value) is kind
    assert not after.engine.ready
    assert after.disk.marker() is None
    wire.left = 0
    assert damaged(bucket) == []
    assert (await after.engine.bring_back()).origin == "restored"
    assert picture(after.root) == picture(life.root)


async def test_a_port_that_nobody_listens_on_is_unavailable(bucket: Bucket, tmp_path: Path) -> None:
    store = opened(f"http://127.0.0.1:{free_port()}", bucket, SHORT)
    try:
        with pytest.raises(StoreUnavailable):
            await Life(store, tmp_path).boot()
    finally:
        await store.close()


async def test_a_server_that_stops_answering_ends_at_the_deadline(
    wire: Wire, hasty: RetryingStore, bucket: Bucket, tmp_path: Path
) -> None:
    life = await saved(hasty, tmp_path / "a")
    write(life.root / "new", b"content")
    wire.next(stall, times=10**6)
    async with asyncio.timeout(5):
        with pytest.raises(StoreUnavailable):
            await life.engine.take("change")
    wire.left = 0
    await asyncio.sleep(0)
    assert (await life.engine.take("change")).record is not None
    assert sequences(bucket) == [1, 2]


# -- answers that are none


@pytest.mark.parametrize("key", ["packs/", "manifests/", "HEAD"])
async def test_a_write_that_is_answered_without_an_etag_is_committed_once(
    wire: Wire, store: RetryingStore, bucket: Bucket, tmp_path: Path, key: str
) -> None:
    life = await saved(store, tmp_path / "a")
    write(life.root / "new", b"content")
    wire.next(at(no_etag, method="PUT", part=key, times=1), times=10**6)
    assert (await life.engine.take("change")).record is not None
    assert sequences(bucket) == [1, 2]


@pytest.mark.parametrize("key", ["packs/", "manifests/", "HEAD"])
async def test_a_read_that_is_answered_without_an_etag_is_read_again(
    wire: Wire, store: RetryingStore, bucket: Bucket, tmp_path: Path, key: str
) -> None:
    life = await saved(store, tmp_path / "a")
    await life.engine.release()
    after = Life(store, tmp_path / "b")
    wire.next(at(no_etag, method="GET", part=key, times=1), times=10**6)
    await after.boot()
    assert picture(after.root) == picture(life.root)


async def test_a_network_that_wants_a_log_in_is_no_bucket_to_save_to(
    wire: Wire, hasty: RetryingStore, bucket: Bucket, tmp_path: Path
) -> None:
    life = await saved(hasty, tmp_path / "a")
    write(life.root / "new", b"content")
    wire.next(log_in_here, times=10**6)
    with pytest.raises(MoltinitError):
        await life.engine.take("change")
    wire.left = 0
    assert sequences(bucket) == [1]
    assert (await life.engine.take("change")).record is not None
    after = Life(hasty, tmp_path / "b")
    await after.boot()
    assert (after.root / "new").read_bytes() == b"content"


async def test_a_network_that_wants_a_log_in_is_no_bucket_to_restore_from(
    wire: Wire, hasty: RetryingStore, bucket: Bucket, tmp_path: Path
) -> None:
    life = await saved(hasty, tmp_path / "a")
    await life.engine.release()
    before = bucket.get("agent/HEAD")
    after = Life(hasty, tmp_path / "b")
    wire.next(log_in_here, times=10**6)
    with pytest.raises(MoltinitError):
        await after.boot()
    wire.left = 0
    assert bucket.get("agent/HEAD") == before


@pytest.mark.parametrize("fault", [short_and_says_so, a_flipped_bit])
@pytest.mark.parametrize("key", ["packs/", "manifests/"])
async def test_one_answer_that_was_damaged_on_the_way_does_not_condemn_a_sound_snapshot(
    wire: Wire, store: RetryingStore, bucket: Bucket, tmp_path: Path, key: str, fault: Fault
) -> None:
    life = await saved(store, tmp_path / "a")
    write(life.root / "new", b"content" * 100)
    await life.engine.take("change")
    await life.engine.release()
    wire.next(at(fault, method="GET", part=key, times=1), times=10**6)
    after = Life(store, tmp_path / "b")
    await after.boot()
    assert damaged(bucket) == []
    assert picture(after.root) == picture(life.root)


async def test_a_proxy_that_weakens_every_etag_ends_a_claim_with_an_error(
    wire: Wire, hasty: RetryingStore, bucket: Bucket, tmp_path: Path
) -> None:
    life = await saved(hasty, tmp_path / "a")
    await life.engine.release()

    async def weaken(wire: Wire, request: web.Request, body: bytes, forward: Forward) -> web.StreamResponse:
        answer = await forward()
        if "ETag" in answer.headers:
            answer.headers["ETag"] = "W/" + answer.headers["ETag"]
        return answer

    wire.next(weaken, times=10**6)
    after = Life(hasty, tmp_path / "b")
    async with asyncio.timeout(5):
        with pytest.raises(MoltinitError):
            await after.engine.claim()
