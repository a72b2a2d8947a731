"""From one writer to the next: what a newcomer waits for, and for how long, on a clock of its own."""

from __future__ import annotations

import asyncio

import pytest

from supervisor.errors import Fenced
from supervisor.snapshot.claim import Claim, Identity, claim_now
from supervisor.snapshot.format import Head
from supervisor.snapshot.handover import Patience, take_over
from supervisor.snapshot.repository import Repository, UnsafeBucket
from supervisor.store.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.engine import new_id

PATIENCE = Patience(acknowledge=5.0, release=30.0)


def who(name: str, home: str = "") -> Identity:
    return Identity(boot=name, home=home or f"disk of {name}", host="host", agent="echo", agent_version="1")


class Place:
    """A bucket, a clock, and whoever wants the one and lives by the other."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(clock=self.clock)
        self.waited_for: list[str] = []
        self.tasks: list[asyncio.Task[Claim]] = []

    def repository(self) -> Repository:
        return Repository(self.store, self.clock, new_id)

    async def holder(self, name: str = "old") -> Claim:
        return await claim_now(self.repository(), who(name))

    def newcomer(self, name: str = "new", home: str = "") -> asyncio.Task[Claim]:
        def waiting(head: Head) -> None:
            self.waited_for.append(head.writer.boot)

        task = asyncio.create_task(take_over(self.repository(), who(name, home), PATIENCE, waiting=waiting))
        self.tasks.append(task)
        return task


@pytest.fixture
def place() -> Place:
    return Place()


async def test_an_empty_bucket_and_a_released_one_are_claimed_at_once(place: Place) -> None:
    first = await place.newcomer("first")
    await first.release()
    second = await place.newcomer("second")
    assert (first.epoch, second.epoch) == (1, 2)
    assert place.waited_for == []


async def test_a_dead_holder_is_superseded_after_five_seconds(place: Place) -> None:
    old = await place.holder()
    new = place.newcomer()
    await place.clock.advance(4.4)
    assert not new.done()
    await place.clock.advance(1.2)
    assert new.done()
    assert (await new).epoch == old.epoch + 1
    assert place.waited_for == ["old"]
    with pytest.raises(Fenced, match="superseded"):
        await old.refresh()


async def test_a_live_holder_is_waited_for_until_it_lets_go(place: Place) -> None:
    old = await place.holder()
    new = place.newcomer()
    await place.clock.advance(1.0)
    head = await old.refresh()
    assert head.handover is not None
    assert head.handover.boot == "new"
    await old.acknowledge()
    await place.clock.advance(20.0)
    assert not new.done()
    await old.release()
    await place.clock.advance(0.6)
    assert (await new).head.handover is None


async def test_a_holder_that_acknowledged_and_never_ends_is_superseded_after_its_grace(place: Place) -> None:
    old = await place.holder()
    new = place.newcomer()
    await place.clock.advance(1.0)
    await old.refresh()
    await old.acknowledge()
    await place.clock.advance(29.0)
    assert not new.done()
    await place.clock.advance(3.0)
    assert new.done()
    with pytest.raises(Fenced):
        await old.release()


async def test_the_holders_commits_go_through_while_it_is_asked(place: Place) -> None:
    old = await place.holder()
    new = place.newcomer()
    await place.clock.advance(1.0)
    await old.release()  # conditional on an ETag that the request has changed
    await place.clock.advance(1.0)
    assert (await new).epoch == 2


async def test_a_daemon_that_is_started_again_on_the_same_disk_does_not_wait(place: Place) -> None:
    await place.holder("old")
    new = place.newcomer("new", home="disk of old")
    await place.clock.settle()
    assert new.done()


async def test_of_two_newcomers_one_gets_it_and_the_other_asks_the_first(place: Place) -> None:
    await place.holder()
    one, two = place.newcomer("one"), place.newcomer("two")
    await place.clock.advance(6.0)
    assert one.done() != two.done()
    winner, loser = (one, two) if one.done() else (two, one)
    first = await winner
    await place.clock.advance(1.0)
    assert (await first.refresh()).handover is not None
    await first.release()
    await place.clock.advance(1.0)
    assert (await loser).epoch == first.epoch + 1


class Careless(MemoryStore):
    """A server that takes conditional writes and looks at one of the two conditions, or at none."""

    def __init__(self, *ignored: str) -> None:
        super().__init__()
        self.ignored = ignored

    async def put_if_absent(self, key: str, data: bytes) -> str:
        if "If-None-Match" in self.ignored:
            return await self.put(key, data)
        return await super().put_if_absent(key, data)

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        if "If-Match" in self.ignored:
            return await self.put(key, data)
        return await super().replace(key, data, etag=etag)


@pytest.mark.parametrize("ignored", ["If-None-Match", "If-Match"])
async def test_a_bucket_that_ignores_a_condition_is_refused_in_this_life_and_in_the_next(ignored: str) -> None:
    store = Careless(ignored)
    for life in ("first", "second"):
        with pytest.raises(UnsafeBucket, match=ignored):
            await claim_now(Repository(store, FakeClock(), new_id), who(life))
    assert [info.key async for info in store.list("")] == ["HEAD"]


async def test_a_bucket_that_keeps_to_the_conditions_is_left_with_nothing_but_head(place: Place) -> None:
    await place.holder()
    assert [info.key async for info in place.store.list("")] == ["HEAD"]
    await place.repository().prove_conditional_writes()
    assert [info.key async for info in place.store.list("")] == ["HEAD"]
