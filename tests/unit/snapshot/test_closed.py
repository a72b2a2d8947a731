from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.init.cell.home import Passage
from supervisor.init.cell.rights import Rights
from supervisor.init.cell.user import AgentUser
from supervisor.snapshot.closed import admit, remove_tree
from supervisor.store.memory import MemoryStore
from tests.support.engine import Life, memory_store, picture
from tests.support.trees import write

AGENT = (54321, 54322)
BIG = 600_000


class Agents:
    """A life whose tree is a user's without privileges over files, as on a machine where the agent has its own."""

    def __init__(self, store: MemoryStore, place: Path) -> None:
        self.store = store
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o755)
        for name in ("home", "scratch"):
            (place / name).mkdir(mode=0o700)
            os.chown(place / name, *AGENT)
        self.rights = Rights(AGENT)
        self.life = Life(store, place, rights=self.rights, scratch=place / "scratch", skip=("*.tmp",))
        self.root = self.life.root

    def write(self, name: str, content: bytes = b"content") -> Path:
        with self.rights.taken():
            return write(self.root / name, content)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Where another user gets to; and whatever modes are left there, it is removed."""
    assert Passage(AgentUser(*AGENT, own=True)).open(tmp_path / "first") is None
    yield tmp_path
    subprocess.run(["chmod", "-R", "u+rwx", str(tmp_path)], check=True)


@pytest.fixture
async def agents(outside: Path) -> Agents:
    agents = Agents(memory_store(), outside / "first")
    await agents.life.boot()
    return agents


def close(path: Path, mode: int) -> None:
    """The modes of a directory and of all directories in it, from the inside out."""
    for directory, _, _ in os.walk(path, topdown=False):
        os.chmod(directory, mode)


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o555, 0o000, 0o300, 0o400, 0o600])
async def test_a_restore_in_place_removes_what_lies_in_closed_directories(agents: Agents, mode: int) -> None:
    agents.write("stays")
    wanted = await agents.life.engine.take("change")
    assert wanted.record is not None
    before = picture(agents.root)
    agents.write("go/mod/cache/file")
    agents.write("go/mod/file")
    close(agents.root / "go", mode)
    await agents.life.engine.restore(wanted.record.sequence)
    assert picture(agents.root) == before


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o555, 0o000, 0o300, 0o400, 0o600])
async def test_a_restore_in_place_changes_what_lies_in_closed_directories(agents: Agents, mode: int) -> None:
    agents.write("go/mod/file", b"old")
    agents.write("go/mod/gone")
    agents.write("go/mod/big", b"a" * BIG)
    wanted = await agents.life.engine.take("change")
    assert wanted.record is not None
    before = picture(agents.root)
    agents.write("go/mod/file", b"new")
    agents.write("go/mod/big", b"a" * (BIG - 1))
    agents.write("go/mod/new/file")
    (agents.root / "go/mod/gone").unlink()
    close(agents.root / "go", mode)
    await agents.life.engine.restore(wanted.record.sequence)
    assert picture(agents.root) == before


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o555, 0o500, 0o000])
async def test_directories_that_are_closed_in_the_snapshot_are_closed_again(agents: Agents, mode: int) -> None:
    agents.write("go/mod/file", b"old")
    close(agents.root / "go/mod", 0o555)
    wanted = await agents.life.engine.take("change")
    assert wanted.record is not None
    before = picture(agents.root)
    os.chmod(agents.root / "go/mod", 0o700)
    agents.write("go/mod/file", b"new")
    agents.write("go/mod/inner/file")
    close(agents.root / "go", mode)
    await agents.life.engine.restore(wanted.record.sequence)
    assert picture(agents.root) == before
    await agents.life.engine.restore(wanted.record.sequence)
    assert picture(agents.root) == before, "and over itself"


@pytest.mark.root
async def test_an_empty_disk_gets_closed_directories(agents: Agents, outside: Path) -> None:
    agents.write("go/mod/cache/file")
    close(agents.root / "go", 0o555)
    await agents.life.engine.take("change")
    later = Agents(agents.store, outside / "later")
    await later.life.boot()
    assert picture(later.root) == picture(agents.root)


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o555, 0o000])
async def test_a_file_takes_the_place_of_a_closed_directory_with_names_that_the_rules_skip(
    agents: Agents, outside: Path, mode: int
) -> None:
    agents.write("thing")
    await agents.life.engine.take("change")
    wanted = picture(agents.root)
    later = Agents(agents.store, outside / "later")
    later.write("thing/skipped.tmp/inner/file")
    close(later.root / "thing", mode)
    await later.life.boot()
    assert picture(later.root) == wanted


@pytest.mark.root
async def test_an_old_version_of_a_file_that_cannot_be_read_is_replaced(agents: Agents) -> None:
    agents.write("big", b"a" * BIG)
    wanted = await agents.life.engine.take("change")
    assert wanted.record is not None
    before = picture(agents.root)
    agents.write("big", b"b" * BIG)
    (agents.root / "big").chmod(0)
    await agents.life.engine.restore(wanted.record.sequence)
    assert picture(agents.root) == before


@pytest.mark.root
async def test_a_closed_home_is_restored_into(agents: Agents, outside: Path) -> None:
    agents.write("file")
    await agents.life.engine.take("change")
    later = Agents(agents.store, outside / "later")
    later.root.chmod(0)
    await later.life.boot()
    assert (later.root / "file").read_bytes() == b"content"


def test_a_link_in_the_place_of_a_directory_admits_nobody_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0o500)
    (tmp_path / "link").symlink_to(tmp_path / "closed")
    with pytest.raises(NotADirectoryError):
        admit(tmp_path / "link")
    assert stat.S_IMODE((tmp_path / "closed").stat().st_mode) == 0o500
    admit(tmp_path / "closed")
    assert stat.S_IMODE((tmp_path / "closed").stat().st_mode) == 0o700


def test_a_tree_of_any_depth_is_removed_and_what_its_links_lead_to_is_not(tmp_path: Path) -> None:
    write(tmp_path / "outside/file", b"content")
    top = tmp_path / "top"
    for name in ("0", "1", "2"):  # names like those that are used on the way
        (top / name / "0").mkdir(parents=True)
        (top / name / "link").symlink_to(tmp_path / "outside")
    fd = os.open(top, os.O_RDONLY)
    try:
        for _ in range(1500):
            os.mkdir("deep", dir_fd=fd)
            inner = os.open("deep", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = inner
    finally:
        os.close(fd)
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        remove_tree("top", directory)
    finally:
        os.close(directory)
        shutil.rmtree(top, ignore_errors=True)
    assert os.listdir(tmp_path) == ["outside"]
    assert (tmp_path / "outside/file").read_bytes() == b"content"
