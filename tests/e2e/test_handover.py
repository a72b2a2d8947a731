"""Two VMs on one bucket: real daemons, one after the other, and at the same time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.test_echo import echo, history, say
from tests.support.daemon import Daemon, descendants
from tests.support.s3 import Bucket, bucket_on


@pytest.fixture(params=["s3", pytest.param("rgw", marks=pytest.mark.rgw)])
async def bucket(request: pytest.FixtureRequest) -> AsyncIterator[Bucket]:
    async with bucket_on(request.getfixturevalue(request.param)) as made:
        yield made


async def test_a_rolling_replacement_loses_nothing_of_the_last_seconds(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(tmp_path / "a", bucket) as old:
        await old.ready()
        said = []
        async with echo(tmp_path / "b", bucket) as new:
            for number in range(1000):  # until the door closes
                try:
                    await say(old, f"{number}")
                except (AssertionError, OSError):
                    break
                said.append(f"{number}")
                await asyncio.sleep(0.02)
            assert await old.wait() == 0, old.tail()
            await new.ready()
            assert (await history(new))[: len(said)] == said
            assert not bucket.keys("agent/rescue/")
            assert old.events("handover.acknowledged")
            assert [e for e in old.events("lifecycle.phase") if e["outcome"] == "handed-over"]
            assert await new.stop() == 0


async def test_a_dead_holder_costs_a_few_seconds_and_the_restore_happens_meanwhile(
    bucket: Bucket, tmp_path: Path
) -> None:
    async with echo(tmp_path / "a", bucket) as old:
        await old.ready()
        await say(old, "one")
        await old.saved()
        await old.kill()
    async with echo(tmp_path / "b", bucket) as new:
        await new.ready()
        assert await history(new) == ["one"]
        status = await new.status()
        assert 5.0 <= status["timings"]["claim"] < 9.0
        (done,) = new.events("restore.done")
        assert done["fetched"] < 2000  # what was written in the last tick of the disk's clock is not trusted
        assert await new.stop() == 0


async def test_a_holder_that_was_frozen_cannot_commit_and_its_last_state_is_rescued(
    bucket: Bucket, tmp_path: Path
) -> None:
    async with echo(tmp_path / "a", bucket) as old:
        await old.ready()
        await say(old, "one")
        await old.saved()
        bucket.answer_with = 503  # "two" exists on the old VM's disk only
        await say(old, "two")
        freeze(old, signal.SIGSTOP)
        bucket.answer_with = None
        async with echo(tmp_path / "b", bucket) as new:
            await new.ready()
            assert await history(new) == ["one"]
            freeze(old, signal.SIGCONT)
            assert await old.wait() == 13, old.tail()
            _, listing = await new.get("/api/admin/rescues")
            (rescued,) = listing["rescues"]
            code, record = await new.post("/api/admin/restore", {"snapshot": rescued["key"]})
            assert code == 200, record
            await new.ready()
            assert await history(new) == ["one", "two"]
            assert await new.stop() == 0


def freeze(daemon: Daemon, number: int) -> None:
    """Stop, or let go on, the whole VM."""
    for pid in (daemon.pid, *descendants(daemon.pid)):
        os.kill(pid, number)
