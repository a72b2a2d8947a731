"""The process that copies databases: started for a capture, ended with it, and ended earlier where it hangs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.init.processes import own_children
from supervisor.snapshot.sqlite import Busy, Damaged
from supervisor.snapshot.sqlite_client import DatabaseCopies, Server
from tests.support.trees import ConstantWriter, count_rows, make_database, write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_database(tmp_path / "root/folder/data.db", 10).close()
    return tmp_path / "root"


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def program(text: str) -> Server:
    """A process that behaves differently."""
    return Server((sys.executable, "-I", "-S", "-c", text), hang_seconds=0.3)


def test_one_process_makes_all_copies_and_is_gone_at_the_end(root: Path, root_fd: int, tmp_path: Path) -> None:
    before = {child.pid for child in own_children()}
    with DatabaseCopies(Server.default(), root_fd) as copies:
        assert {child.pid for child in own_children()} == before, "none is started before it is needed"
        for number in range(3):
            copy = tmp_path / f"copy-{number}"
            assert copies.copy("folder/data.db", copy, (), size=1, check=True) is None
            assert count_rows(copy) == 10
        assert len({child.pid for child in own_children()} - before) == 1
    assert {child.pid for child in own_children()} == before


def test_a_process_that_was_started_ahead_is_the_one_that_copies(root_fd: int, tmp_path: Path) -> None:
    before = {child.pid for child in own_children()}
    with DatabaseCopies(Server.default(), root_fd) as copies:
        copies.start()
        (started,) = {child.pid for child in own_children()} - before
        copies.copy("folder/data.db", tmp_path / "copy", (), size=1, check=False)
        assert {child.pid for child in own_children()} - before == {started}
    assert {child.pid for child in own_children()} == before


def test_a_directory_that_is_swapped_for_a_link_is_not_followed(root: Path, root_fd: int, tmp_path: Path) -> None:
    with DatabaseCopies(Server.default(), root_fd) as copies:
        copies.copy("folder/data.db", tmp_path / "copy", (), size=1, check=False)
        (root / "folder").rename(tmp_path / "outside")
        (root / "folder").symlink_to(tmp_path / "outside")
        with pytest.raises(Busy):
            copies.copy("folder/data.db", tmp_path / "copy", (), size=1, check=False)


def test_a_database_under_constant_writes_is_copied_with_all_that_was_committed_before(
    root: Path, root_fd: int, tmp_path: Path
) -> None:
    writer = ConstantWriter(root / "folder/data.db")
    writer.start()
    try:
        with DatabaseCopies(Server.default(), root_fd) as copies:
            for _ in range(20):
                committed = writer.committed
                assert copies.copy("folder/data.db", tmp_path / "copy", (), size=1, check=True) is None
                assert count_rows(tmp_path / "copy") >= 10 + committed
    finally:
        writer.stop()


def test_damage_is_told_from_a_lock(root: Path, root_fd: int, tmp_path: Path) -> None:
    write(root / "fake.db", b"SQLite format 3\0" + b"\xee" * 5000)
    with DatabaseCopies(Server.default(), root_fd) as copies:
        with pytest.raises(Damaged):
            copies.copy("fake.db", tmp_path / "copy", (), size=1, check=False)
        with pytest.raises(Busy):
            copies.copy("missing.db", tmp_path / "copy", (), size=1, check=False)
        assert copies.copy("folder/data.db", tmp_path / "copy", (), size=1, check=False) is None


@pytest.mark.parametrize(
    "text",
    [
        "import time; time.sleep(600)",
        "raise SystemExit",
        "print('no answer at all', flush=True)",
        "print('[]', flush=True)",
    ],
    ids=["hangs", "ends", "babbles", "answers with something else"],
)
def test_a_process_that_does_not_answer_is_ended_and_the_database_counts_as_busy(
    root_fd: int, tmp_path: Path, text: str
) -> None:
    before = {child.pid for child in own_children()}
    with DatabaseCopies(program(text), root_fd) as copies:
        for _ in range(2):
            with pytest.raises(Busy):
                copies.copy("folder/data.db", tmp_path / "copy", (), size=1, check=False)
    assert {child.pid for child in own_children()} == before


@pytest.mark.root
def test_the_process_becomes_the_agents_user(root_fd: int, tmp_path: Path) -> None:
    text = (
        "import os, sys, json\n"
        "from supervisor.snapshot.sqlite_server import drop_to\n"
        "drop_to(int(sys.argv[2]), int(sys.argv[3]))\n"
        "ids = os.getresuid(), os.getresgid(), os.getgroups()\n"
        "print(json.dumps({'outcome': 'copied', 'finding': repr(ids)}), flush=True)"
    )
    default = Server.default()
    server = Server(
        (*default.argv[:-2], "import sys; sys.path.insert(0, sys.argv.pop(1))\n" + text, default.argv[-1]),
        (65534, 65533),
    )
    with DatabaseCopies(server, root_fd) as copies:
        finding = copies.copy("folder/data.db", tmp_path / "copy", (), size=1, check=False)
    assert finding == "((65534, 65534, 65534), (65533, 65533, 65533), [])"
