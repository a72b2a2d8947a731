"""Trying again, and knowing what became of a write."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from supervisor.errors import ObjectNotFound, PreconditionFailed, StoreRefused, StoreUnavailable
from supervisor.store.memory import MemoryStore
from supervisor.store.retry import Attempt, RetryingStore, RetryPolicy
from tests.support.clock import FakeClock


class Unreliable(MemoryStore):
    """Loses requests (before) and answers (after)."""

    def __init__(self) -> None:
        super().__init__()
        self.lost_requests = 0
        self.lost_answers = 0
        self.hangs = False
        self.writes_at: list[float] = []
        self.clock: FakeClock | None = None

    def _before(self) -> None:
        if self.lost_requests:
            self.lost_requests -= 1
            raise StoreUnavailable("no answer")

    def _after(self) -> None:
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreUnavailable("no answer")

    async def get(self, key: str, *, limit: int | None = None):  # type: ignore[no-untyped-def]
        self._before()
        if self.hangs:
            await asyncio.Event().wait()
        return await super().get(key, limit=limit)

    async def put_if_absent(self, key: str, data: bytes) -> str:
        self._before()
        etag = await super().put_if_absent(key, data)
        self._after()
        return etag

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        self._before()
        if self.clock:
            self.writes_at.append(self.clock.monotonic())
        new = await super().replace(key, data, etag=etag)
        self._after()
        return new


class Rig:
    def __init__(self, **policy: float) -> None:
        self.clock = FakeClock()
        self.inner = Unreliable()
        self.inner.clock = self.clock
        self.attempts: list[Attempt] = []
        self.store = RetryingStore(
            self.inner, self.clock, Random(1), RetryPolicy(**policy), observer=self.attempts.append
        )

    async def run(self, work, seconds: float = 60.0):  # type: ignore[no-untyped-def]
        """The result of `work`, with time passing."""
        task = asyncio.ensure_future(work)
        for _ in range(int(seconds * 10)):
            await self.clock.advance(0.1)
            if task.done():
                break
        assert task.done(), "it goes on for ever"
        return task.result()


async def test_a_lost_request_is_made_again() -> None:
    rig = Rig()
    await rig.inner.put("k", b"x")
    rig.inner.lost_requests = 3
    assert (await rig.run(rig.store.get("k"))).data == b"x"
    assert [attempt.outcome for attempt in rig.attempts] == ["bucket-unavailable"] * 3 + ["ok"]


async def test_after_the_deadline_the_last_failure_is_raised() -> None:
    rig = Rig(deadline=10.0)
    rig.inner.lost_requests = 1000
    began = rig.clock.monotonic()
    with pytest.raises(StoreUnavailable):
        await rig.run(rig.store.get("k"), 300)
    assert rig.clock.monotonic() - began < 200
    assert rig.store.reachable is False


async def test_an_absent_object_is_an_answer_and_not_tried_again() -> None:
    rig = Rig()
    with pytest.raises(ObjectNotFound):
        await rig.run(rig.store.get("k"))
    assert len(rig.attempts) == 1
    assert rig.store.reachable is True


async def test_the_lost_answer_of_a_conditional_write_is_found_by_reading_back() -> None:
    rig = Rig()
    rig.inner.lost_answers = 1
    etag = await rig.run(rig.store.put_if_absent("k", b"mine"))
    assert (await rig.inner.get("k")).etag == etag
    rig.inner.lost_answers = 1
    await rig.run(rig.store.replace("k", b"mine too", etag=etag))
    assert (await rig.inner.get("k")).data == b"mine too"


async def test_a_lost_request_of_a_conditional_write_is_made_again() -> None:
    rig = Rig()
    etag = await rig.inner.put("k", b"one")
    rig.inner.lost_requests = 2
    await rig.run(rig.store.replace("k", b"two", etag=etag))
    assert (await rig.inner.get("k")).data == b"two"


async def test_a_refusal_that_is_the_echo_of_an_own_write_is_a_success() -> None:
    rig = Rig()
    await rig.inner.put("k", b"mine")  # the first sending, whose connection broke
    assert await rig.run(rig.store.put_if_absent("k", b"mine"))


async def test_a_race_that_was_lost_is_told() -> None:
    rig = Rig()
    etag = await rig.inner.put("k", b"one")
    await rig.inner.put("k", b"somebody else's")
    with pytest.raises(PreconditionFailed):
        await rig.run(rig.store.replace("k", b"two", etag=etag))
    with pytest.raises(PreconditionFailed):
        await rig.run(rig.store.put_if_absent("k", b"two"))


async def test_writes_of_one_key_keep_their_distance() -> None:
    rig = Rig()
    etag = await rig.inner.put("k", b"0")
    for number in range(3):
        etag = await rig.run(rig.store.replace("k", b"%d" % number, etag=etag))
    first, second, third = rig.inner.writes_at
    assert second - first >= 1.0
    assert third - second >= 1.0


async def test_a_server_that_never_answers_is_given_up_on() -> None:
    rig = Rig(attempt=0.05, deadline=0.01, slowest=1e12)
    rig.inner.hangs = True
    with pytest.raises(StoreUnavailable, match="did not answer"):
        await rig.store.get("k")


async def test_cancelling_ends_it_at_once() -> None:
    rig = Rig()
    rig.inner.hangs = True
    task = asyncio.ensure_future(rig.store.get("k"))
    await rig.clock.settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_refusal_of_the_keys_is_not_tried_again() -> None:
    class Refusing(MemoryStore):
        async def get(self, key: str, *, limit: int | None = None):  # type: ignore[no-untyped-def]
            raise StoreRefused("no")

    clock = FakeClock()
    attempts: list[Attempt] = []
    store = RetryingStore(Refusing(), clock, Random(1), observer=attempts.append)
    with pytest.raises(StoreRefused):
        await store.get("k")
    assert len(attempts) == 1
