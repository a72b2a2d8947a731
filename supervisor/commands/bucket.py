"""Working on the bucket without a daemon: reading it, and claiming it properly where something is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent_runtime.contract import AgentRuntime
from supervisor.assembly import (
    agent_version,
    bucket_location,
    make_engine,
    new_id,
    skip_rules,
)
from supervisor.clock import SystemClock
from supervisor.errors import UsageError
from supervisor.quarters import move_in
from supervisor.settings import Settings
from supervisor.snapshot.engine import Engine
from supervisor.snapshot.format import Head
from supervisor.snapshot.local import LocalDisk
from supervisor.snapshot.repository import HELD, Repository
from supervisor.store.open import open_store
from supervisor.store.protocol import Store


@asynccontextmanager
async def open_bucket(settings: Settings) -> AsyncIterator[Store]:
    """The bucket, for reading."""
    store = open_store(bucket_location(settings), clock=SystemClock())
    try:
        yield store
    finally:
        await store.close()


async def read_head(store: Store) -> tuple[Repository, Head]:
    """HEAD of a repository that must be there. Raises `UsageError`."""
    repository = Repository(store, SystemClock(), new_id)
    seen = await repository.read()
    if seen is None:
        raise UsageError(
            f"{store.url} holds no repository yet", hint="`moltinit run` begins one; or check MOLTINIT_BUCKET_URL"
        )
    return repository, seen.head


@asynccontextmanager
async def claimed(settings: Settings, *, takeover: bool) -> AsyncIterator[tuple[Engine, AgentRuntime]]:
    """As `only_claimed`, with the tree brought back."""
    async with only_claimed(settings, takeover=takeover) as (engine, runtime):
        await engine.bring_back()
        yield engine, runtime


@asynccontextmanager
async def only_claimed(settings: Settings, *, takeover: bool) -> AsyncIterator[tuple[Engine, AgentRuntime]]:
    """This disk's engine, with the claim of the repository; the tree stays as it is. Released at the end.

    Raises `UsageError` where another VM holds the repository (`takeover` claims it all the same: that VM is fenced).
    """
    clock = SystemClock()
    disk = LocalDisk(settings.home, new_id)
    disk.lock()
    quarters = move_in(settings)
    runtime = quarters.runtime
    try:
        async with open_bucket(settings) as store:
            seen = await Repository(store, clock, new_id).read()
            if seen is not None and seen.head.state == HELD and seen.head.writer.home != disk.id and not takeover:
                writer = seen.head.writer
                raise UsageError(
                    f"{store.url} is held by {writer.host or 'another machine'} (boot {writer.boot})",
                    hint="ask the daemon there; or, if that machine is gone, repeat this with --takeover",
                )
            engine = make_engine(
                settings,
                runtime=runtime,
                version=agent_version(runtime),
                store=store,
                disk=disk,
                rules=skip_rules(settings, runtime),
                clock=clock,
                rights=quarters.rights,
                furnish=quarters.furnish,
                scratch=quarters.scratch,
            )
            try:
                await engine.claim()
                yield engine, runtime
                await engine.release()
            finally:
                engine.close()
    finally:
        await runtime.close()
        disk.unlock()
