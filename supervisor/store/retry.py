"""Retries around a store: backoff with jitter under one deadline, and conditional writes that know their outcome.

A conditional write whose answer was lost must not be repeated blindly: the repetition meets its own first write and
gets a 412. So every doubtful outcome, a 412 included, is read back. The callers put a unique `write_id` into what
they write conditionally; equal bytes therefore prove an own write.
"""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, TypeVar

from supervisor.clock import Clock
from supervisor.errors import ObjectNotFound, PreconditionFailed, StoreError, StoreUnavailable
from supervisor.store.protocol import ObjectInfo, Store, StoredObject

_T = TypeVar("_T")
_Price = Literal["A", "B", "free"]
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often to try. Durations are seconds.

    Args:
        deadline: after this, no attempt of an operation is begun any more.
        base: the first pause is drawn from 0 to this, each further one from twice as much.
        cap: the longest pause.
        attempt: how long one attempt may take, before the allowance for its bytes.
        slowest: bytes per second of the slowest link that is still waited for.
        unknown_size: bytes allowed for where the size is not known beforehand.
        write_interval: between writes of one key by `replace`; R2 answers 429 to more than one a second.
    """

    deadline: float = 30.0
    base: float = 0.2
    cap: float = 5.0
    attempt: float = 10.0
    slowest: float = 128 * 1024.0
    unknown_size: int = 16 * 1024 * 1024
    write_interval: float = 1.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt as an observer sees it.

    Args:
        operation: the method's name; `read_back` for the read after a doubtful write.
        price: R2's class of these requests: A (writes, listings), B (reads) or free (deletes).
        requests: how many requests it stands for (a listing's pages, a delete's keys).
        seconds: how long it took.
        size: bytes sent or received.
        outcome: `ok`, or the code of the error.
        error: the error's sentence, or empty.
    """

    operation: str
    price: _Price
    requests: int
    seconds: float
    size: int
    outcome: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Budget:
    """Of one operation: no attempt begins after `deadline` (monotonic seconds), and each may take `attempt` seconds."""

    deadline: float
    attempt: float


class RetryingStore:
    """A store that tries again. See `Store` for the operations.

    Args:
        inner: the store that makes one request a call.
        clock: measures deadlines and pauses.
        random: draws the jitter.
        policy: how long and how often to try.
        observer: called after every attempt; it must not raise.
    """

    def __init__(
        self,
        inner: Store,
        clock: Clock,
        random: Random,
        policy: RetryPolicy | None = None,
        *,
        observer: Callable[[Attempt], None] | None = None,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._random = random
        self._policy = policy or RetryPolicy()
        self._observer = observer
        self._turns: dict[str, asyncio.Lock] = {}
        self._written: dict[str, float] = {}
        self.reachable: bool | None = None
        """Whether the last attempt was answered; None before the first."""
        self.last_success: float | None = None
        """When the bucket last answered (seconds since 1970)."""
        self.last_error: StoreError | None = None
        """The last failure (an absent object and a lost race are none)."""
        self.last_error_at: float | None = None
        """When that was (seconds since 1970)."""

    def __repr__(self) -> str:
        return f"RetryingStore({self._inner!r})"

    @property
    def url(self) -> str:
        return self._inner.url

    async def get(self, key: str, *, limit: int | None = None) -> StoredObject:
        budget = self._budget(self._policy.unknown_size)
        return await self._repeat(
            budget, "get", "B", lambda: self._inner.get(key, limit=limit), size=lambda found: len(found.data)
        )

    async def get_range(self, key: str, start: int, end: int) -> bytes:
        budget = self._budget(end - start)
        return await self._repeat(budget, "get_range", "B", lambda: self._inner.get_range(key, start, end), size=len)

    async def stat(self, key: str) -> ObjectInfo:
        return await self._repeat(self._budget(0), "stat", "B", lambda: self._inner.stat(key))

    async def put(self, key: str, data: bytes) -> str:
        budget = self._budget(len(data))
        return await self._repeat(budget, "put", "A", lambda: self._inner.put(key, data), size=lambda _: len(data))

    async def put_if_absent(self, key: str, data: bytes) -> str:
        return await self._write("put_if_absent", key, data, None, lambda: self._inner.put_if_absent(key, data))

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        async with self._turns.setdefault(key, asyncio.Lock()):
            await self._keep_apart(key)
            return await self._write("replace", key, data, etag, lambda: self._inner.replace(key, data, etag=etag))

    async def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """See `Store.list`. A listing that breaks off goes on behind the last key that it had; the deadline counts
        from the last progress."""
        found: builtins.list[ObjectInfo] = []

        async def collect() -> builtins.list[ObjectInfo]:
            async for info in self._inner.list(prefix):
                if not found or info.key > found[-1].key:
                    found.append(info)
            return found

        budget, known = self._budget(self._policy.unknown_size), 0
        pauses = _Pauses(self._policy, self._random)
        while True:
            try:
                await self._attempt(budget, "list", "A", collect, requests=lambda: len(found) // _PAGE + 1)
                break
            except StoreUnavailable as failed:
                if len(found) > known:
                    budget, known = self._budget(self._policy.unknown_size), len(found)
                await self._rest(budget, pauses, failed)
        for info in found:
            yield info

    async def delete(self, keys: Iterable[str]) -> None:
        doomed = tuple(keys)
        budget = self._budget(len(doomed) * 1024)
        await self._repeat(budget, "delete", "free", lambda: self._inner.delete(doomed), requests=lambda: len(doomed))

    async def close(self) -> None:
        await self._inner.close()

    # -- attempts

    def _budget(self, size: int) -> _Budget:
        policy = self._policy
        allowance = size / policy.slowest
        return _Budget(self._clock.monotonic() + policy.deadline + allowance, policy.attempt + allowance)

    async def _repeat(
        self,
        budget: _Budget,
        operation: str,
        price: _Price,
        attempt: Callable[[], Coroutine[Any, Any, _T]],
        *,
        size: Callable[[_T], int] = lambda _: 0,
        requests: Callable[[], int] = lambda: 1,
    ) -> _T:
        """Until it works, is answered with something else than "later", or the deadline has come."""
        pauses = _Pauses(self._policy, self._random)
        while True:
            try:
                return await self._attempt(budget, operation, price, attempt, size=size, requests=requests)
            except StoreUnavailable as failed:
                await self._rest(budget, pauses, failed)

    async def _attempt(
        self,
        budget: _Budget,
        operation: str,
        price: _Price,
        attempt: Callable[[], Coroutine[Any, Any, _T]],
        *,
        size: Callable[[_T], int] = lambda _: 0,
        requests: Callable[[], int] = lambda: 1,
    ) -> _T:
        began = self._clock.monotonic()
        try:
            try:
                async with asyncio.timeout(budget.attempt):
                    result = await attempt()
            except TimeoutError:
                raise StoreUnavailable(
                    f"{self.url} did not answer within {budget.attempt:.0f} s ({operation})",
                    hint="check the endpoint's address and the network",
                ) from None
        except StoreError as error:
            self._note(operation, price, requests(), began, 0, error)
            raise
        self._note(operation, price, requests(), began, size(result), None)
        return result

    def _note(
        self, operation: str, price: _Price, requests: int, began: float, size: int, error: StoreError | None
    ) -> None:
        answered = error is None or isinstance(error, ObjectNotFound | PreconditionFailed)
        self.reachable = answered
        if answered:
            self.last_success = self._clock.time()
        else:
            self.last_error, self.last_error_at = error, self._clock.time()
        if self._observer is not None:
            seconds = self._clock.monotonic() - began
            outcome, text = ("ok", "") if error is None else (error.code, error.message)
            self._observer(Attempt(operation, price, requests, seconds, size, outcome, text))

    async def _rest(self, budget: _Budget, pauses: _Pauses, failed: StoreUnavailable) -> None:
        """Before the next attempt. Raises `failed` where there is no time for one."""
        pause = pauses.next()
        if self._clock.monotonic() + pause >= budget.deadline:
            raise failed
        await self._clock.sleep(pause)

    # -- conditional writes

    async def _write(
        self,
        operation: str,
        key: str,
        data: bytes,
        expected: str | None,
        write: Callable[[], Coroutine[Any, Any, str]],
    ) -> str:
        """A conditional write with a known outcome. `expected` is the ETag that it stands on; None: absent."""
        budget = self._budget(len(data))
        pauses = _Pauses(self._policy, self._random)
        while True:
            try:
                return await self._attempt(budget, operation, "A", write, size=lambda _: len(data))
            except (StoreUnavailable, PreconditionFailed) as failed:
                doubt: StoreError = failed
            finally:
                self._written[key] = self._clock.monotonic()
            found = await self._read_back(key, budget, pauses)
            if found is not None and found.data == data:
                return found.etag
            if (found.etag if found else None) != expected:
                raise PreconditionFailed(f"{key} in {self.url} was changed by somebody else") from doubt
            # It was not written, whatever the answer was: a 412 may be the echo of an earlier version, too.
            await self._rest(budget, pauses, _later(doubt))
            await self._keep_apart(key)

    async def _read_back(self, key: str, budget: _Budget, pauses: _Pauses) -> StoredObject | None:
        while True:
            try:
                return await self._attempt(
                    budget, "read_back", "B", lambda: self._inner.get(key), size=lambda found: len(found.data)
                )
            except ObjectNotFound:
                return None
            except StoreUnavailable as failed:
                await self._rest(budget, pauses, failed)

    async def _keep_apart(self, key: str) -> None:
        """R2 takes one write a second for each key."""
        written = self._written.get(key)
        if written is not None:
            left = written + self._policy.write_interval - self._clock.monotonic()
            if left > 0:
                await self._clock.sleep(left)


class _Pauses:
    """Full jitter: each pause is drawn from zero to a bound that doubles."""

    def __init__(self, policy: RetryPolicy, random: Random) -> None:
        self._bound = policy.base
        self._cap = policy.cap
        self._random = random

    def next(self) -> float:
        """The next pause, in seconds."""
        bound, self._bound = self._bound, min(self._bound * 2, self._cap)
        return self._random.uniform(0, bound)


def _later(doubt: StoreError) -> StoreUnavailable:
    return doubt if isinstance(doubt, StoreUnavailable) else StoreUnavailable(doubt.message, hint=doubt.hint)
