"""Lives of the engine on Ceph's S3 gateway: what the store's contract promises is enough there, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from supervisor.clock import SystemClock
from supervisor.errors import Fenced
from supervisor.snapshot.history import rescues
from supervisor.snapshot.repository import Repository
from supervisor.store.open import BucketLocation, open_store
from supervisor.store.retry import RetryingStore
from tests.support.engine import Life, new_id, picture
from tests.support.rgw import RgwServer
from tests.support.s3 import Bucket, bucket_on
from tests.support.trees import add_rows, count_rows, make_database, make_odd_tree, write

pytestmark = pytest.mark.rgw


@pytest.fixture
async def bucket(rgw: RgwServer) -> AsyncIterator[Bucket]:
    async with bucket_on(rgw) as bucket:
        yield bucket


@pytest.fixture
async def stores(bucket: Bucket) -> AsyncIterator[tuple[RetryingStore, RetryingStore]]:
    """Two connections, as two VMs have."""
    location = BucketLocation(
        f"s3://{bucket.name}/agent",
        bucket.server.url,
        "auto",
        access_key_id=bucket.server.access_key_id,
        secret_access_key=bucket.server.secret_access_key,
    )
    made = open_store(location, clock=SystemClock()), open_store(location, clock=SystemClock())
    yield made
    for store in made:
        await store.close()


async def test_a_whole_life_and_the_next_one(stores: tuple[RetryingStore, RetryingStore], tmp_path: Path) -> None:
    old, new = Life(stores[0], tmp_path / "a"), Life(stores[1], tmp_path / "b")
    await old.boot()
    make_odd_tree(old.root, 2000)
    (old.root / "a-fifo").unlink()
    connection = make_database(old.root / "state.sqlite", rows=2000)
    write(old.root / "large", bytes(range(256)) * (80 << 10))
    await old.engine.take("change")
    add_rows(connection, 50)
    write(old.root / "d1" / "late", b"the last seconds")
    await old.engine.take("final", release=True)
    connection.close()
    (old.root / "state.sqlite").replace(tmp_path / "saved.sqlite")

    assert (await new.boot()).origin == "restored"

    (new.root / "state.sqlite").replace(tmp_path / "restored.sqlite")
    assert count_rows(tmp_path / "restored.sqlite") == count_rows(tmp_path / "saved.sqlite") == 2050
    before, after = picture(old.root), picture(new.root)
    assert before == after
    old.engine.close()
    new.engine.close()


async def test_a_superseded_writer_is_fenced_and_its_state_kept(
    stores: tuple[RetryingStore, RetryingStore], tmp_path: Path
) -> None:
    old, new = Life(stores[0], tmp_path / "a"), Life(stores[1], tmp_path / "b")
    await old.boot()
    write(old.root / "said", b"one")
    await old.engine.take("change")
    await new.boot()
    write(old.root / "said", b"one and two")

    with pytest.raises(Fenced):
        await old.engine.take("change")
    key = await old.engine.rescue()

    found = await rescues(Repository(stores[1], SystemClock(), new_id))
    assert [rescue.key for rescue in found] == [key]
    write(new.root / "said", b"one, again")
    await new.engine.take("change")
    await new.engine.restore(key)
    assert (new.root / "said").read_bytes() == b"one and two"
    old.engine.close()
    new.engine.close()


async def test_of_two_that_commit_at_once_one_is_fenced_and_nothing_is_mixed(
    stores: tuple[RetryingStore, RetryingStore], tmp_path: Path
) -> None:
    old, new = Life(stores[0], tmp_path / "a"), Life(stores[1], tmp_path / "b")
    await old.boot()
    write(old.root / "said", b"one")
    await old.engine.take("change")
    write(old.root / "said", b"two")

    results = await asyncio.gather(old.engine.take("change"), new.boot(), return_exceptions=True)

    assert not isinstance(results[1], BaseException)
    fenced = isinstance(results[0], Fenced)
    assert fenced or not isinstance(results[0], BaseException)
    assert (new.root / "said").read_bytes() == (b"one" if fenced else b"two")
    old.engine.close()
    new.engine.close()


async def test_what_nothing_refers_to_is_collected(
    stores: tuple[RetryingStore, RetryingStore], bucket: Bucket, tmp_path: Path
) -> None:
    life = Life(stores[0], tmp_path / "a")
    await life.boot()
    for number in range(3):
        write(life.root / "said", b"%d" % number)
        await life.engine.take("change")
    before = bucket.keys()
    rehearsed = await life.engine.collect(rehearse=True)
    assert bucket.keys() == before
    await life.engine.collect()
    assert set(bucket.keys()) <= set(before)
    assert rehearsed.packs == 0  # all of it is younger than an hour
    life.engine.close()
