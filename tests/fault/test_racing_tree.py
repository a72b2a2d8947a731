"""An agent that races the capture: names that become links, pipes or other files at the worst moment, databases above
all; files without rights; hard links that part. `test_changing_tree.py` has the plain changes.

Whatever happens, no byte from outside of the tree gets into the bucket, nothing hangs, and what is restored is
something that the tree was.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from supervisor.snapshot import capture as capture_module
from supervisor.snapshot import scan as scan_module
from supervisor.snapshot.format import HEAD_KEY, PACK_PREFIX
from supervisor.snapshot.pack import read_footer
from supervisor.snapshot.rules import SkipRules
from supervisor.snapshot.scan import Scan, scan
from supervisor.snapshot.sqlite_client import DatabaseCopies
from supervisor.snapshot.zstd import decompress
from supervisor.store.memory import MemoryStore
from tests.support.engine import Life, memory_store, picture
from tests.support.trees import count_rows, make_database, write

SECRET = b"a secret from outside of the tree 0123456789 "
NOBODY = 65534
PATIENCE = 1.5


async def contents(store: MemoryStore) -> bytes:
    """All that the bucket holds, unpacked."""
    out = bytearray()
    async for info in store.list(""):
        data = (await store.get(info.key)).data
        if info.key.startswith(PACK_PREFIX):
            for offset, stored, raw, _ in read_footer(data, info.key).frames:
                out += decompress(data[offset : offset + stored], raw, what=info.key)
        else:
            out += data if info.key == HEAD_KEY else decompress(data, 1 << 24, what=info.key)
    return bytes(out)


class Place:
    """A life, and a secret beside its root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.outside = path / "outside"
        write(self.outside / "secret", SECRET * 100)
        connection = make_database(self.outside / "secret.db", 0, wal=False)
        connection.execute("INSERT INTO t(body) VALUES (?)", (SECRET.decode() * 20,))
        connection.close()
        self.before = picture(self.outside)
        self.store = memory_store()
        self.life = Life(self.store, path)

    @property
    def root(self) -> Path:
        return self.life.root

    async def take(self) -> None:
        """A snapshot, in bounded time."""
        async with asyncio.timeout(30):
            await self.life.engine.take("change", accept_shrink=True)

    async def brought_back(self) -> Path:
        """The tree as another machine gets it, after a look at what must never happen."""
        assert SECRET not in await contents(self.store)
        assert picture(self.outside) == self.before
        later = Life(self.store, self.path / "later")
        await later.boot()
        later.engine.close()
        return later.root


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    await place.life.boot()
    return place


async def test_the_secret_is_seen_where_it_does_get_into_the_bucket(place: Place) -> None:
    write(place.root / "file", SECRET)
    await place.take()
    assert SECRET in await contents(place.store)


def after_walk(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None], *, times: int = 1) -> None:
    """The change happens between the walk and the reading."""
    left = times

    def scan_then_change(root: str | os.PathLike[str], rules: SkipRules) -> Scan:
        nonlocal left
        walked = scan(root, rules)
        if left:
            left -= 1
            change()
        return walked

    monkeypatch.setattr(capture_module, "scan", scan_then_change)


def before_copy(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[], None], undo: Callable[[], None] = lambda: None
) -> None:
    """The change happens between the look at a database's first bytes and SQLite's opening it; once."""
    left = 1

    copy = DatabaseCopies.copy

    def change_then_copy(self: DatabaseCopies, *arguments: Any, **named: Any) -> str | None:
        nonlocal left
        if not left:
            return copy(self, *arguments, **named)
        left = 0
        change()
        try:
            return copy(self, *arguments, **named)
        finally:
            undo()

    monkeypatch.setattr(DatabaseCopies, "copy", change_then_copy)


@contextlib.contextmanager
def pipes_let_go(*pipes: Path) -> Iterator[list[Path]]:
    """Whoever still waits at these pipes after `PATIENCE` is woken, and the pipe noted."""
    stuck: list[Path] = []
    ended = threading.Event()

    def let_go() -> None:
        if ended.wait(PATIENCE):
            return
        while not ended.wait(0.05):
            for pipe in pipes:
                with contextlib.suppress(OSError):  # ENXIO: nobody reads
                    os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
                    if pipe not in stuck:
                        stuck.append(pipe)

    thread = threading.Thread(target=let_go, name="let-go")
    thread.start()
    try:
        yield stuck
    finally:
        ended.set()
        thread.join()


# -- databases


@pytest.mark.parametrize("and_back", [False, True], ids=["to stay", "and is one again after"])
async def test_a_database_that_becomes_a_link_to_another_is_not_copied(
    place: Place, monkeypatch: pytest.MonkeyPatch, and_back: bool
) -> None:
    database = place.root / "data.db"
    make_database(database, 10, wal=False).close()

    def swap() -> None:
        os.rename(database, place.root / "aside")
        database.symlink_to(place.outside / "secret.db")

    def swap_back() -> None:
        if and_back:
            os.rename(place.root / "aside", database)

    with monkeypatch.context() as patch:
        before_copy(patch, swap, swap_back)
        await place.take()
    await place.brought_back()


async def test_a_directory_of_a_database_that_becomes_a_link_leads_nowhere(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_database(place.root / "folder/secret.db", 10, wal=False).close()

    def swap() -> None:
        shutil.rmtree(place.root / "folder")
        (place.root / "folder").symlink_to(place.outside)

    with monkeypatch.context() as patch:
        before_copy(patch, swap)
        await place.take()
    await place.brought_back()


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("wal", [True, False])
async def test_a_side_file_that_is_a_link_changes_and_reveals_nothing_outside(
    place: Place, suffix: str, wal: bool
) -> None:
    make_database(place.root / "data.db", 10, wal=wal).close()
    (place.root / f"data.db{suffix}").symlink_to(place.outside / "secret")
    await place.take()
    back = await place.brought_back()
    (back / f"data.db{suffix}").unlink(missing_ok=True)
    assert count_rows(back / "data.db") == 10


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
@pytest.mark.parametrize("wal", [True, False])
async def test_a_side_file_that_is_a_pipe_does_not_hang(place: Place, suffix: str, wal: bool) -> None:
    make_database(place.root / "data.db", 10, wal=wal).close()
    pipe = place.root / f"data.db{suffix}"
    os.mkfifo(pipe)
    with pipes_let_go(pipe) as stuck:
        await place.take()
    assert stuck == []
    await place.brought_back()


async def test_a_database_that_becomes_a_pipe_does_not_hang(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    make_database(place.root / "data.db", 10, wal=False).close()

    def swap() -> None:
        (place.root / "data.db").unlink()
        os.mkfifo(place.root / "data.db")

    with monkeypatch.context() as patch, pipes_let_go(place.root / "data.db") as stuck:
        before_copy(patch, swap)
        await place.take()
    assert stuck == []
    await place.brought_back()


async def test_a_database_that_vanishes_before_its_copy_is_left_out(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(place.root / "stays", b"content")
    make_database(place.root / "data.db", 10, wal=False).close()
    with monkeypatch.context() as patch:
        before_copy(patch, (place.root / "data.db").unlink)
        await place.take()
    back = await place.brought_back()
    assert os.listdir(back) == ["stays"]


async def test_what_only_looks_like_a_database_is_stored_as_it_is(place: Place) -> None:
    fake = b"SQLite format 3\0" + Random(1).randbytes(5000)
    write(place.root / "fake.db", fake)
    await place.take()
    assert ((await place.brought_back()) / "fake.db").read_bytes() == fake


# -- hard links


async def test_a_hard_link_outlives_its_other_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place.root / "a", b"content")
    os.link(place.root / "a", place.root / "b")
    with monkeypatch.context() as patch:
        after_walk(patch, (place.root / "a").unlink)
        await place.take()
    assert ((await place.brought_back()) / "b").read_bytes() == b"content"


async def test_a_hard_link_keeps_its_content_when_its_other_name_is_written_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(place.root / "config", b"old")
    os.link(place.root / "config", place.root / "config.backup")

    def rewrite() -> None:
        write(place.root / "new", b"new")
        os.rename(place.root / "new", place.root / "config")

    with monkeypatch.context() as patch:
        after_walk(patch, rewrite)
        await place.take()
    back = await place.brought_back()
    assert (back / "config").read_bytes() in (b"old", b"new")
    assert (back / "config.backup").read_bytes() == b"old"


async def test_a_hard_link_in_a_directory_that_cannot_be_read_keeps_its_content_without_the_other_name(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(place.root / "a", b"content")
    write(place.root / "stays", b"content")
    (place.root / "folder").mkdir()
    os.link(place.root / "a", place.root / "folder/b")
    await place.take()
    (place.root / "a").unlink()
    with monkeypatch.context() as patch:
        without_rights(patch, place.root)
        os.chmod(place.root / "folder", 0)
        try:
            await place.take()
        finally:
            os.chmod(place.root / "folder", 0o700)
    assert ((await place.brought_back()) / "folder/b").read_bytes() == b"content"


async def test_hard_links_across_restore_classes_whose_first_name_loses_its_directory_leave_a_sound_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = memory_store()
    life = Life(store, tmp_path / "first", first=("/z",))
    await life.boot()
    write(life.root / "z/first", b"content")
    os.link(life.root / "z/first", life.root / "a")
    with monkeypatch.context() as patch:
        after_walk(patch, lambda: shutil.rmtree(life.root / "z"))
        await life.engine.take("change")
    later = Life(store, tmp_path / "later")
    await later.boot()
    assert (later.root / "a").read_bytes() == b"content"


async def test_hard_links_that_stay_share_their_content_again(place: Place) -> None:
    for number in range(3):
        write(place.root / f"{number}/first", b"content")
        os.link(place.root / f"{number}/first", place.root / f"{number}/second")
    await place.take()
    back = await place.brought_back()
    for number in range(3):
        assert (back / f"{number}/first").samefile(back / f"{number}/second")


# -- the walk itself


async def test_a_directory_that_becomes_a_link_between_listing_and_entering_is_not_entered(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(place.root / "folder/secret", b"its own")
    write(place.root / "stays", b"content")
    enter = scan_module._Walk._enter

    def swap_then_enter(self: scan_module._Walk, fd: int, name: str, path: str, depth: int) -> None:
        if name == "folder" and not (place.root / "folder").is_symlink():
            shutil.rmtree(place.root / "folder")
            (place.root / "folder").symlink_to(place.outside)
        enter(self, fd, name, path, depth)

    with monkeypatch.context() as patch:
        patch.setattr(scan_module._Walk, "_enter", swap_then_enter)
        await place.take()
    back = await place.brought_back()
    assert (back / "stays").read_bytes() == b"content"
    assert not (back / "folder/secret").exists()


async def test_directories_that_vanish_while_they_are_walked_are_left_out(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        write(place.root / f"folder{number:02d}/inner/file", b"content")
    below = scan_module._Walk.below
    seen = 0

    def vanish_then_walk(self: scan_module._Walk, fd: int, prefix: str, depth: int) -> None:
        nonlocal seen
        seen += 1
        if depth == 1 and seen % 3 == 0:
            shutil.rmtree(place.root / prefix.rstrip("/"))
        below(self, fd, prefix, depth)

    with monkeypatch.context() as patch:
        patch.setattr(scan_module._Walk, "below", vanish_then_walk)
        await place.take()
    back = await place.brought_back()
    for path in back.rglob("file"):
        assert path.read_bytes() == b"content"
    left = sorted(path.name for path in place.root.iterdir())
    assert 0 < len(left) < 20
    assert set(left) <= {path.name for path in back.iterdir()}


async def test_odd_names_change_kind_as_harmlessly_as_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    base = os.fsencode(place.root)
    names = [b"new\nline", b"not-utf8-\xff\xfe", b"back\\slash", b"\xed\xa0\x80", b"-rf", b" "]
    for name in names:
        write(Path(os.fsdecode(os.path.join(base, name))), b"content")

    def swap() -> None:
        for number, name in enumerate(names):
            path = os.path.join(base, name)
            os.unlink(path)
            if number % 2:
                os.symlink(os.fsencode(place.outside / "secret"), path)
            else:
                os.mkfifo(path)

    await place.take()
    with monkeypatch.context() as patch:
        after_walk(patch, swap)
        await place.take()
    back = await place.brought_back()
    for name in names:
        path = os.path.join(os.fsencode(back), name)
        assert os.path.islink(path) or not os.path.exists(path) or Path(os.fsdecode(path)).read_bytes() == b"content"


# -- sizes


async def test_a_sparse_file_of_a_terabyte_is_read_in_bounded_time_or_left_out(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (place.root / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    write(place.root / "stays", b"content")
    read = os.pread
    most = 0

    def read_so_far(fd: int, size: int, offset: int) -> bytes:
        nonlocal most
        most = max(most, offset + size)
        if most > 256 << 20 and offset:
            raise OSError("the test has seen enough")
        return read(fd, size, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", read_so_far)
        await place.take()
    assert ((await place.brought_back()) / "stays").read_bytes() == b"content"
    assert most <= 256 << 20, "it is read to its end"


async def test_a_file_that_grows_from_another_thread_is_some_beginning_of_it(place: Place) -> None:
    line = b"0123456789abcde\n"
    write(place.root / "log", line * 1000)
    ended = threading.Event()

    def grow() -> None:
        with (place.root / "log").open("ab", buffering=0) as file:
            while not ended.is_set():
                file.write(line * 64)

    thread = threading.Thread(target=grow, name="grow")
    thread.start()
    try:
        for _ in range(3):
            await place.take()
    finally:
        ended.set()
        thread.join()
    data = ((await place.brought_back()) / "log").read_bytes()
    assert len(data) >= 16_000
    assert data == (line * (len(data) // 16 + 1))[: len(data)]


# -- rights


def without_rights(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """The capture reads as an ordinary user, who owns the tree: root may read everything. On Linux the user for file
    access, and with it root's privileges over files, belongs to the thread."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for path in (root, *root.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def scan_as_nobody(_: str | os.PathLike[str], rules: SkipRules) -> Scan:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            libc.setfsuid(NOBODY)
            return scan(f"/proc/self/fd/{fd}", rules)
        finally:
            os.close(fd)

    run = capture_module._Run.collect

    def collect(self: capture_module._Run, walk: Callable[[], Scan]) -> None:
        try:
            run(self, walk)
        finally:
            libc.setfsuid(0)

    monkeypatch.setattr(capture_module, "scan", scan_as_nobody)
    monkeypatch.setattr(capture_module._Run, "collect", collect)


@pytest.mark.parametrize("mode", [0o000, 0o200, 0o100])
async def test_a_file_without_rights_stays_as_it_was_known(
    place: Place, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    write(place.root / "file", b"content")
    write(place.root / "stays", b"content")
    await place.take()
    write(place.root / "stays", b"changed")
    write(place.root / "unknown", b"never readable")
    os.chmod(place.root / "file", mode)
    os.chmod(place.root / "unknown", mode)
    with monkeypatch.context() as patch:
        without_rights(patch, place.root)
        await place.take()
    back = await place.brought_back()
    assert (back / "file").read_bytes() == b"content"
    assert (back / "stays").read_bytes() == b"changed"
    assert not (back / "unknown").exists()


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o200, 0o300, 0o400, 0o600])
async def test_a_directory_without_rights_keeps_what_was_known_to_be_in_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    write(place.root / "folder/file", b"content")
    write(place.root / "folder/inner/file", b"content")
    write(place.root / "stays", b"content")
    await place.take()
    write(place.root / "stays", b"changed")
    with monkeypatch.context() as patch:
        without_rights(patch, place.root)
        os.chmod(place.root / "folder", mode)
        try:
            await place.take()
        finally:
            os.chmod(place.root / "folder", 0o700)
    back = await place.brought_back()
    assert (back / "stays").read_bytes() == b"changed"
    assert (back / "folder/file").read_bytes() == b"content"
    assert (back / "folder/inner/file").read_bytes() == b"content"


# -- everything at once


class Racer(threading.Thread):
    """Turns a few names into whatever it likes, without a pause."""

    def __init__(self, place: Place, seed: int) -> None:
        super().__init__(name="racer")
        self._place = place
        self._rng = Random(seed)
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            path = self._place.root / "race" / self._rng.choice(["a", "b", "c", "a.txt"])
            with contextlib.suppress(OSError):
                self._remove(path)
                self._make(path)

    def _remove(self, path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _make(self, path: Path) -> None:
        outside = self._place.outside
        match self._rng.randrange(7):
            case 0:
                path.write_bytes(b"content" * 10)
            case 1:
                path.symlink_to(outside / "secret")
            case 2:
                path.symlink_to(outside)
            case 3:
                os.mkfifo(path)
            case 4:
                write(path / "secret", b"content" * 10)
            case 5:
                os.link(self._place.root / "stays", path)
            case _:
                return

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self.join()


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_tree_that_never_holds_still_is_saved_without_a_byte_from_outside(place: Place, seed: int) -> None:
    write(place.root / "stays", b"content" * 10)
    (place.root / "race").mkdir()
    racer = Racer(place, seed)
    racer.start()
    try:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            await place.take()
    finally:
        racer.stop()
    back = await place.brought_back()
    assert (back / "stays").read_bytes() == b"content" * 10
    for path in (back / "race").rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert path.read_bytes() in (b"content" * 10, b"")
