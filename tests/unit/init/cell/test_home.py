from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from supervisor.init.cell.home import MAX_DEPTH, Passage, close_home, give, unreadable
from supervisor.init.cell.user import AgentUser, same_user
from supervisor.snapshot.closed import remove_tree

AGENT = AgentUser(54321, 54322, own=True)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def owner(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid


def can(uid: int, *command: str) -> bool:
    """Does this command work for this user?"""
    return (
        subprocess.run(command, user=uid, group=uid, extra_groups=[], capture_output=True, check=False).returncode == 0
    )


def step_down(fd: int) -> int:
    """The directory `deep` in this one, which is closed."""
    try:
        return os.open("deep", os.O_RDONLY, dir_fd=fd)
    finally:
        os.close(fd)


def test_the_way_to_the_agents_directories_is_passable_and_everything_beside_it_closed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "bucket").mkdir(parents=True)
    (home / "scratch" / "other").mkdir(parents=True)
    (home / "id").write_text("x")
    (home / "id").chmod(0o644)
    (home / "link").symlink_to("/etc/passwd")
    close_home(home, [home / "agent", home / "scratch" / "agent"])
    assert mode(home) == mode(home / "scratch") == 0o711
    assert mode(home / "bucket") == mode(home / "scratch" / "other") == 0o700
    assert mode(home / "id") == 0o600
    assert mode(Path("/etc/passwd")) == 0o644


def test_a_directory_that_holds_nothing_of_the_agents_is_closed(tmp_path: Path) -> None:
    close_home(tmp_path / "home", [tmp_path / "elsewhere"])
    assert mode(tmp_path / "home") == 0o700


def test_without_a_user_of_its_own_nothing_changes_hands(tmp_path: Path) -> None:
    assert give(tmp_path / "new", same_user("x")).changed == 0
    assert (tmp_path / "new").is_dir()


@pytest.mark.root
def test_what_is_roots_is_given_and_what_is_somebody_elses_is_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "a" / "b").mkdir(parents=True)
    (home / "a" / "file").write_text("x")
    (home / "theirs").write_text("x")
    os.chown(home / "theirs", 777, 777)
    given = give(home, AGENT)
    assert given.changed == 4
    assert {owner(path) for path in (home, home / "a", home / "a" / "b", home / "a" / "file")} == {(54321, 54322)}
    assert owner(home / "theirs") == (777, 777)
    assert give(home, AGENT).changed == 0


@pytest.mark.root
def test_no_link_is_followed_when_a_tree_is_given(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("x")
    home = tmp_path / "home"
    home.mkdir()
    (home / "directory").symlink_to(outside)
    (home / "file").symlink_to(outside / "file")
    give(home, AGENT)
    assert owner(outside) == owner(outside / "file") == (0, 0)
    assert owner(home / "file") == (54321, 54322)


@pytest.mark.root
def test_a_file_with_another_name_outside_stays_what_it_is(tmp_path: Path) -> None:
    outside = tmp_path / "passwd"
    outside.write_text("x")
    home = tmp_path / "home"
    home.mkdir()
    os.link(outside, home / "planted")
    (home / "one").write_text("x")
    os.link(home / "one", home / "two")
    given = give(home, AGENT)
    assert given.left == ["planted"]
    assert owner(outside) == (0, 0)
    assert owner(home / "one") == (54321, 54322), "both of its names are in here"


@pytest.mark.root
def test_a_tree_that_is_deeper_than_any_stack_is_given_as_far_as_snapshots_go(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "file").write_text("x")
    parent = os.open(tmp_path, os.O_RDONLY)
    fd = os.open(home, os.O_RDONLY)
    owners = []
    try:
        for _ in range(1200):
            os.mkdir("deep", dir_fd=fd)
            fd = step_down(fd)
        os.close(fd)
        given = give(home, AGENT)
        fd = os.open(home, os.O_RDONLY)
        for _ in range(1200):
            fd = step_down(fd)
            owners.append(os.fstat(fd).st_uid)
        assert owner(home) == owner(home / "file") == (54321, 54322)
    finally:
        os.close(fd)
        remove_tree("home", parent)
        os.close(parent)
    given_levels = MAX_DEPTH + 1
    assert owners == [54321] * given_levels + [0] * (1200 - given_levels)
    assert given.changed == given_levels + 2


@pytest.mark.root
def test_closed_directories_let_one_user_pass_and_nobody_else(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    target = closed / "inner" / "home"
    target.mkdir(parents=True)
    closed.chmod(0o700)
    (closed / "secret").write_text("x")
    target.chmod(0o755)
    passage = Passage(AGENT)
    assert passage.open(target) is None
    assert closed in passage.opened
    assert can(54321, "ls", str(target))
    assert not can(54321, "ls", str(closed)), "it passes through, and does not look around"
    assert not can(54323, "ls", str(target))
    assert Passage(AGENT).open(target) is None, "and again"


@pytest.mark.root
def test_a_list_that_is_there_is_kept(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "home").mkdir(parents=True)
    closed.chmod(0o700)
    Passage(AgentUser(54999, 54999, own=True)).open(closed / "home")
    Passage(AGENT).open(closed / "home")
    for uid in (54321, 54999):
        assert can(uid, "test", "-d", str(closed / "home"))


def test_a_program_that_the_agent_may_not_read_is_found(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    for path, bits in ((good, 0o644), (bad, 0o600)):
        path.write_text("x")
        path.chmod(bits)
    assert unreadable([good, bad], AGENT) == bad
    assert unreadable([good, bad], same_user("x")) is None
