"""Many lives on one bucket behind a bad network: thousands of histories, each the same every time."""

from __future__ import annotations

import os

import pytest

from supervisor.snapshot import claim as claim_module
from tests.simulation.actors import World
from tests.simulation.loop import run

SEEDS = int(os.environ.get("MOLTINIT_TEST_SEEDS", "150"))


def live(seed: int) -> World:
    """One history."""
    world = World(seed)
    try:
        run(world.run())
    except BaseException as error:
        error.add_note(f"seed {seed}; the end of its trace:\n" + "\n".join(world.trace[-30:]))
        raise
    return world


def live_all(seeds: int) -> list[World]:
    """So many histories."""
    return [live(seed) for seed in range(seeds)]


def test_whatever_happens_to_writers_and_network_the_history_stays_sound() -> None:
    worlds = live_all(SEEDS)
    # The histories are worth something only if all of this happens in them.
    assert sum(len(world.acknowledged) for world in worlds) > SEEDS * 5
    assert any("rescue/" in line for world in worlds for line in world.trace)
    assert any("delete packs/" in line for world in worlds for line in world.trace)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_seed_gives_the_same_history(seed: int) -> None:
    assert live(seed).trace == live(seed).trace


def test_a_writer_that_ignores_its_epoch_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does the simulation see what it is there for?"""

    async def reads_whatever(self: claim_module.Claim, made: object = None) -> object:
        seen = await self._repository.read()
        assert seen is not None
        self._version = seen
        return seen.head

    monkeypatch.setattr(claim_module.Claim, "_read", reads_whatever)
    with pytest.raises(AssertionError, match=r"nobody commits after the fence|one writer to an epoch"):
        live_all(50)
