"""What every store has to mean by its seven operations: in memory, in a directory, on a real S3 server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.clock import SystemClock
from supervisor.errors import (
    BucketNotFound,
    ObjectNotFound,
    ObjectTooLarge,
    PreconditionFailed,
    StoreError,
    StoreUnavailable,
)
from supervisor.store.credentials import Credentials, Fixed
from supervisor.store.file import FileStore
from supervisor.store.memory import MemoryStore
from supervisor.store.open import BucketLocation, open_store
from supervisor.store.protocol import Store
from supervisor.store.retry import RetryingStore, RetryPolicy
from supervisor.store.s3 import S3Store
from tests.support.s3 import S3Server, bucket_on
from tests.support.wire import StrictR2, wire_before

KINDS = [
    *("memory", "file", "s3", "s3-retrying", "s3-strict-as-r2"),
    *(pytest.param(kind, marks=pytest.mark.rgw) for kind in ("rgw", "rgw-retrying")),
]


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "file":
        made = FileStore(tmp_path / "bucket")
    else:
        s3: S3Server = request.getfixturevalue("rgw" if request.param.startswith("rgw") else "s3")
        async with bucket_on(s3) as bucket:
            keys = {"access_key_id": s3.access_key_id, "secret_access_key": s3.secret_access_key}
            if request.param == "s3-strict-as-r2":
                async with wire_before(s3.url) as wire:
                    wire.next(StrictR2(), times=10**9)
                    location = BucketLocation(f"s3://{bucket.name}/prefix", wire.url, "auto", **keys)
                    made = open_store(location, clock=SystemClock())
                    yield made
                    await made.close()
                return
            if request.param in ("s3", "rgw"):
                made = S3Store(
                    bucket.name, "prefix", endpoint_url=s3.url, page_size=10, credentials=Fixed(Credentials(**keys))
                )
            else:
                location = BucketLocation(f"s3://{bucket.name}/prefix", s3.url, "auto", **keys)
                made = open_store(location, clock=SystemClock(), policy=RetryPolicy(write_interval=0.0))
            yield made
            await made.close()
        return
    yield made
    await made.close()


async def keys(store: Store, prefix: str) -> list[str]:
    return [info.key async for info in store.list(prefix)]


async def test_what_was_written_is_read_back_under_its_etag(store: Store) -> None:
    etag = await store.put("a/b", b"hello")
    found = await store.get("a/b")
    assert (found.data, found.etag) == (b"hello", etag)


async def test_an_empty_object_is_an_object(store: Store) -> None:
    await store.put("empty", b"")
    assert (await store.get("empty")).data == b""
    assert (await store.stat("empty")).size == 0


async def test_a_missing_object_is_said_to_be_missing(store: Store) -> None:
    await store.put("there", b"x")
    for operation in (store.get("no"), store.stat("no"), store.get_range("no", 0, 1)):
        with pytest.raises(ObjectNotFound):
            await operation


async def test_an_object_beyond_the_limit_is_refused_and_the_next_request_is_answered(store: Store) -> None:
    await store.put("k", bytes(1 << 20))
    with pytest.raises(ObjectTooLarge):
        await store.get("k", limit=(1 << 20) - 1)
    assert len((await store.get("k", limit=1 << 20)).data) == 1 << 20


async def test_a_range_is_those_bytes_and_ends_with_the_object(store: Store) -> None:
    await store.put("k", bytes(range(100)))
    assert await store.get_range("k", 10, 20) == bytes(range(10, 20))
    assert await store.get_range("k", 90, 200) == bytes(range(90, 100))
    assert await store.get_range("k", 200, 300) == b""
    assert await store.get_range("k", 5, 5) == b""


async def test_stat_tells_size_time_and_the_etag_of_get(store: Store) -> None:
    await store.put("k", b"12345")
    info = await store.stat("k")
    assert (info.key, info.size, info.etag) == ("k", 5, (await store.get("k")).etag)
    assert info.modified > 1_700_000_000


async def test_writing_again_replaces_and_changes_the_etag(store: Store) -> None:
    first = await store.put("k", b"one")
    second = await store.put("k", b"two")
    assert first != second
    assert (await store.get("k")).data == b"two"


async def test_put_if_absent_writes_once(store: Store) -> None:
    etag = await store.put_if_absent("k", b"one")
    assert (await store.get("k")).etag == etag
    with pytest.raises(PreconditionFailed):
        await store.put_if_absent("k", b"two")
    assert (await store.get("k")).data == b"one"


async def test_of_many_that_put_if_absent_at_once_exactly_one_wins(store: Store) -> None:
    results = await asyncio.gather(
        *(store.put_if_absent("k", b"%d" % number) for number in range(8)), return_exceptions=True
    )
    winners = [number for number, result in enumerate(results) if isinstance(result, str)]
    assert len(winners) == 1
    assert all(isinstance(result, str | PreconditionFailed) for result in results)
    assert (await store.get("k")).data == b"%d" % winners[0]


async def test_replace_needs_the_version_that_was_seen(store: Store) -> None:
    first = await store.put("k", b"one")
    second = await store.replace("k", b"two", etag=first)
    with pytest.raises(PreconditionFailed):
        await store.replace("k", b"three", etag=first)
    assert (await store.get("k")).data == b"two"
    await store.replace("k", b"three", etag=second)


async def test_replace_of_what_is_gone_fails(store: Store) -> None:
    etag = await store.put("k", b"one")
    await store.delete(["k"])
    with pytest.raises(PreconditionFailed):
        await store.replace("k", b"two", etag=etag)


async def test_of_many_that_replace_one_version_exactly_one_wins(store: Store) -> None:
    etag = await store.put("k", b"start")
    results = await asyncio.gather(
        *(store.replace("k", b"%d" % number, etag=etag) for number in range(8)), return_exceptions=True
    )
    assert sum(isinstance(result, str) for result in results) == 1
    # Ceph tells some of the losers 500: the driver says what it was told, and the store that retries finds out.
    unsure = () if isinstance(store, RetryingStore) else (StoreUnavailable,)
    assert all(isinstance(result, (str, PreconditionFailed, *unsure)) for result in results)


async def test_a_listing_is_complete_and_in_order(store: Store) -> None:
    for number in range(25):
        await store.put(f"many/{number:03d}", b"x" * number)
    await store.put("other", b"")
    found = [info async for info in store.list("many/")]
    assert [info.key for info in found] == [f"many/{number:03d}" for number in range(25)]
    assert [info.size for info in found] == list(range(25))
    assert await keys(store, "nothing/") == []
    assert "other" in await keys(store, "")


async def test_a_prefix_may_end_within_a_name(store: Store) -> None:
    await store.put("ab/1", b"")
    await store.put("ac/1", b"")
    assert await keys(store, "a") == ["ab/1", "ac/1"]
    assert await keys(store, "ab") == ["ab/1"]


async def test_deleting_is_no_error_for_what_is_not_there(store: Store) -> None:
    await store.put("k", b"x")
    await store.delete(["k", "never/was"])
    assert await keys(store, "") == []


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/../b", ".", "a\nb", "x" * 2000])
async def test_a_key_that_not_every_store_can_hold_is_refused(store: Store, key: str) -> None:
    with pytest.raises(StoreError):
        await store.put(key, b"x")


async def test_odd_but_possible_keys_are_kept(store: Store) -> None:
    for key in ("a b+c", "a%2Fb", "a=b&c?d#e", "~x'y"):
        await store.put(key, key.encode())
        assert (await store.get(key)).data == key.encode()
    assert len(await keys(store, "")) == 4


@pytest.mark.parametrize("server", ["s3", pytest.param("rgw", marks=pytest.mark.rgw)])
async def test_a_missing_bucket_is_not_an_empty_one(request: pytest.FixtureRequest, server: str) -> None:
    s3: S3Server = request.getfixturevalue(server)
    store = S3Store(
        "no-such-bucket-here",
        endpoint_url=s3.url,
        credentials=Fixed(Credentials(s3.access_key_id, s3.secret_access_key)),
    )
    for operation in (store.get("HEAD"), store.stat("HEAD"), store.put_if_absent("HEAD", b""), keys(store, "")):
        with pytest.raises(BucketNotFound):
            await operation
    await store.close()
