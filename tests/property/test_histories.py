"""Random histories of a tree: whatever was done to it, every snapshot brings back what was there."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.engine import Life, memory_store, picture

NAMES = st.sampled_from(["a", "b", "c d", "é", "x\\y", "bad-\udcff", "new\nline"])
PLACES = st.lists(NAMES, min_size=1, max_size=3).map(lambda parts: "/".join(parts))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PLACES, st.binary(max_size=400)),
        st.tuples(st.just("append"), PLACES, st.binary(min_size=1, max_size=300_000 // 100)),
        st.tuples(st.just("grow"), PLACES, st.integers(1, 600_000)),
        st.tuples(st.just("directory"), PLACES, st.just(b"")),
        st.tuples(st.just("symlink"), PLACES, st.just(b"")),
        st.tuples(st.just("hardlink"), PLACES, PLACES),
        st.tuples(st.just("remove"), PLACES, st.just(b"")),
        st.tuples(st.just("chmod"), PLACES, st.sampled_from([0o600, 0o755, 0o444])),
        st.tuples(st.just("snapshot"), st.just(""), st.just(b"")),
    ),
    min_size=1,
    max_size=25,
)


def do(root: Path, step: str, place: str, value: object) -> None:
    """One step; what is not possible in this tree is not done."""
    path = root / place
    try:
        if step == "remove":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            return
        if step == "chmod":
            if not path.is_symlink() and not path.is_dir():
                path.chmod(int(str(value)))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if step == "directory":
            path.mkdir(exist_ok=True)
        elif step == "symlink":
            path.symlink_to("../somewhere/else")
        elif step == "hardlink":
            if not (root / str(value)).is_symlink():
                os.link(root / str(value), path)
        elif not path.is_symlink():
            data = bytes(value) if isinstance(value, bytes) else bytes(range(256)) * (int(str(value)) // 256 + 1)
            with path.open("wb" if step == "write" else "ab") as file:
                file.write(data)
    except OSError:
        return


async def live(steps: list[tuple[str, str, object]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        store = memory_store()
        life = Life(store, Path(place) / "vm")
        life.root.mkdir(parents=True)
        await life.boot()
        for step, where, value in steps:
            if step == "snapshot":
                await life.engine.take("change", accept_shrink=True)
            else:
                do(life.root, step, where, value)
        await life.engine.take("final", accept_shrink=True)
        want = picture(life.root)
        life.engine.close()
        after = Life(store, Path(place) / "next")
        await after.boot()
        after.engine.close()
        assert _content(picture(after.root)) == _content(want)


def _content(seen: dict[bytes, tuple[object, ...]]) -> dict[bytes, tuple[object, ...]]:
    """Without the times of directories, which are no part of what a snapshot promises."""
    return {path: item[:2] if item[0] == "directory" else item for path, item in seen.items()}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS)
def test_the_next_life_finds_what_the_last_one_left(steps: list[tuple[str, str, object]]) -> None:
    asyncio.run(live(steps))
