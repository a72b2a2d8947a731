"""The hint that something changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from supervisor.clock import SystemClock
from supervisor.snapshot.rules import SkipRules
from supervisor.snapshot.watch import watch


@asynccontextmanager
async def watching(root: Path, *skip: str) -> AsyncIterator[asyncio.Event]:
    """An event that is set by changes below `root`; the watcher is up when it is handed out."""
    hint = asyncio.Event()
    task = asyncio.ensure_future(watch(root, SkipRules(skip), hint, clock=SystemClock(), failed=lambda error: None))
    try:
        async with asyncio.timeout(20):
            while not hint.is_set():  # the watcher starts in a thread and does not say when it is ready
                (root / "probe").write_text(str(asyncio.get_running_loop().time()))
                await asyncio.sleep(0.1)
        (root / "probe").unlink()
        await asyncio.sleep(0.5)
        hint.clear()
        yield hint
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def test_a_change_sets_the_hint(tmp_path: Path) -> None:
    async with watching(tmp_path) as hint:
        (tmp_path / "file").write_text("x")
        async with asyncio.timeout(10):
            await hint.wait()


async def test_what_is_skipped_gives_no_hint(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    async with watching(tmp_path, "cache/") as hint:
        (tmp_path / "cache" / "file").write_text("x")
        await asyncio.sleep(0.6)
        assert not hint.is_set()


async def test_a_name_that_is_not_utf8_does_not_end_the_watch(tmp_path: Path) -> None:
    async with watching(tmp_path) as hint:
        (tmp_path / "bad-\udcff").write_text("x")
        await asyncio.sleep(3)
        hint.clear()
        (tmp_path / "good").write_text("x")
        async with asyncio.timeout(15):
            await hint.wait()


async def test_directories_that_come_later_are_watched_too(tmp_path: Path) -> None:
    async with watching(tmp_path) as hint:
        (tmp_path / "new" / "inner").mkdir(parents=True)
        await asyncio.sleep(3)
        hint.clear()
        (tmp_path / "new" / "inner" / "file").write_text("x")
        async with asyncio.timeout(10):
            await hint.wait()


async def test_a_link_to_a_directory_is_not_followed(tmp_path: Path) -> None:
    outside, home = tmp_path / "outside", tmp_path / "home"
    outside.mkdir()
    home.mkdir()
    (home / "link").symlink_to(outside)
    (home / "everything").symlink_to("/")
    async with watching(home) as hint:
        (outside / "file").write_text("x")
        await asyncio.sleep(0.6)
        assert not hint.is_set()
        (home / "file").write_text("x")
        async with asyncio.timeout(10):
            await hint.wait()
