"""Which agent may carry on with which state."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.snapshot.claim import Identity
from supervisor.snapshot.versions import AgentTooOld
from supervisor.store.memory import MemoryStore
from tests.support.engine import Life, memory_store
from tests.support.trees import write


async def boot(store: MemoryStore, place: Path, version: str, agent: str = "openclaw") -> Life:
    life = Life(store, place)
    life.engine._identity = Identity(f"boot{version}", life.disk.id, "host", agent, version)
    await life.boot()
    return life


async def written_by(tmp_path: Path, version: str) -> MemoryStore:
    store = memory_store()
    life = await boot(store, tmp_path / "first", version)
    write(life.root / "file", b"content")
    await life.engine.take("final", release=True)
    return store


async def test_a_newer_agent_pins_the_snapshot_before_it(tmp_path: Path) -> None:
    store = await written_by(tmp_path, "2026.9.6")
    life = await boot(store, tmp_path / "second", "2026.10.1")
    pinned = await life.engine.pin_before_upgrade()
    assert pinned is not None
    assert (pinned.sequence, pinned.pin) == (1, "before-upgrade")


@pytest.mark.parametrize(("before", "now"), [("2026.10.1", "2026.9.6"), ("2026.9.6-1", "2026.9.6"), ("v2.0", "1.9.9")])
async def test_an_older_agent_is_refused_and_told_what_to_do(tmp_path: Path, before: str, now: str) -> None:
    store = await written_by(tmp_path, before)
    life = await boot(store, tmp_path / "second", now)
    with pytest.raises(AgentTooOld, match=before) as caught:
        await life.engine.pin_before_upgrade()
    assert "install" in caught.value.hint


@pytest.mark.parametrize("now", ["2026.9.6", "", "development"])
async def test_the_same_agent_and_one_that_cannot_be_compared_change_nothing(tmp_path: Path, now: str) -> None:
    store = await written_by(tmp_path, "2026.9.6")
    life = await boot(store, tmp_path / "second", now)
    assert await life.engine.pin_before_upgrade() is None


async def test_another_agent_is_another_matter(tmp_path: Path) -> None:
    store = await written_by(tmp_path, "2026.9.6")
    life = await boot(store, tmp_path / "second", "1.0", agent="echo")
    assert await life.engine.pin_before_upgrade() is None
