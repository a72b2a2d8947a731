"""What is interrupted: each scenario prepares a place, does one thing, and says what must be true afterwards."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from supervisor.clock import SystemClock
from supervisor.snapshot import collect
from supervisor.snapshot.retention import Retention
from supervisor.snapshot.verify import verify
from supervisor.store.file import FileStore
from tests.support.engine import Life, picture
from tests.support.trees import add_rows, count_rows, make_database, write

SPARSE = Retention(last=2, hourly=0, daily=0, weekly=0)
ACKNOWLEDGED = "acknowledged"


def life(place: Path, disk: str = "vm") -> Life:
    """On the bucket of this place."""
    return Life(FileStore(place / "bucket"), place / disk, clock=SystemClock(), retention=SPARSE)


def change(root: Path, number: int) -> None:
    """State `number` of the tree."""
    write(root / "file", b"%d" % number * 1000)
    write(root / f"folder/{number % 3}", b"inside %d" % number)
    (root / "link").unlink(missing_ok=True)
    (root / "link").symlink_to(f"folder/{number % 3}")
    if not (root / "state.db").exists():
        make_database(root / "state.db", 0).close()
    rows = number - count_rows(root / "state.db")
    with contextlib.closing(sqlite3.connect(root / "state.db", isolation_level=None)) as connection:
        add_rows(connection, rows)


def state_of(root: Path) -> tuple[bytes, int]:
    """What of a tree tells which state it is in."""
    return (root / "file").read_bytes(), count_rows(root / "state.db")


def expected(number: int) -> tuple[bytes, int]:
    """`state_of` after `change(number)`."""
    return b"%d" % number * 1000, number


@dataclass(frozen=True)
class Scenario:
    """`act` is what dies; `allowed` are the states in which the next life may find itself, the last of them the only
    one once `act` has returned."""

    name: str
    prepare: Callable[[Path], Awaitable[None]]
    act: Callable[[Path], Awaitable[None]]
    allowed: tuple[int, ...]


async def nothing(place: Path) -> None:
    """An empty bucket."""


async def two_snapshots(place: Path) -> None:
    """States 1 and 2 are committed, and let go of."""
    saved = life(place, "first")
    await saved.boot()
    for number in (1, 2):
        change(saved.root, number)
        await saved.engine.take("change", release=number == 2)
    saved.engine.close()
    shutil.rmtree(place / "first")


async def many_snapshots(place: Path) -> None:
    """Six states, of which retention keeps two."""
    saved = life(place, "first")
    await saved.boot()
    for number in range(1, 7):
        change(saved.root, number)
        await saved.engine.take("change", release=number == 6)
    saved.engine.close()
    shutil.rmtree(place / "first")


async def claim(place: Path) -> None:
    await life(place).engine.claim()


async def restore(place: Path) -> None:
    await life(place).boot()


async def _change_and_take(place: Path, *, release: bool) -> None:
    one = life(place)
    await one.boot()
    change(one.root, 3)
    await one.engine.take("change", release=release, consistent=release)


async def snapshot(place: Path) -> None:
    await _change_and_take(place, release=False)


async def seal(place: Path) -> None:
    await _change_and_take(place, release=True)


async def collection(place: Path) -> None:
    one = life(place)
    one.engine._collector = collect.Collector(one.engine._repository, young=0.0)
    await one.boot()
    await one.engine.collect()


async def back_in_time(place: Path) -> None:
    one = life(place)
    await one.boot()
    await one.engine.restore(1)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("claim", two_snapshots, claim, (2,)),
        Scenario("restore", two_snapshots, restore, (2,)),
        Scenario("snapshot", two_snapshots, snapshot, (2, 3)),
        Scenario("seal", two_snapshots, seal, (2, 3)),
        Scenario("collect", many_snapshots, collection, (6,)),
        Scenario("back-in-time", two_snapshots, back_in_time, (2, 1)),
    )
}


async def check(scenario: Scenario, place: Path) -> None:
    """Boot on another disk, then on the one where it happened. Raises `AssertionError`."""
    done = (place / ACKNOWLEDGED).exists()
    allowed = [expected(number) for number in (scenario.allowed[-1:] if done else scenario.allowed)]
    elsewhere = life(place, "elsewhere")
    await elsewhere.boot()
    found = state_of(elsewhere.root)
    assert found in allowed, f"another VM found {found[1]} rows"
    head = await elsewhere.engine.refresh()
    report = await verify(elsewhere.engine._repository, head, deep=True)
    assert report.sound, report.damaged
    await elsewhere.engine.release()
    elsewhere.engine.close()

    here = life(place)
    back = await here.boot()
    found_here = state_of(here.root)
    if back.origin == "local":  # its own disk may be between two states: whoever changed it was killed, too
        assert found_here[1] in scenario.allowed
        assert found_here[0] in [b"", *(expected(number)[0] for number in scenario.allowed)]
    else:
        assert found_here in [expected(n) for n in scenario.allowed], f"the same VM found {found_here[1]} rows"
    if back.origin == "restored":
        assert not [path for path in picture(here.root) if b".moltinit-" in path]
    here.engine.close()
