from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_runtime.openclaw.own_directory import have_own_directory

UID = os.getuid()


def test_it_is_made_for_its_user_alone_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a" / "locks"
    assert have_own_directory(path, UID)
    assert path.stat().st_mode & 0o777 == 0o700
    (path / "lock").touch()
    assert have_own_directory(path, UID)
    assert (path / "lock").exists()


@pytest.mark.parametrize("target", ["elsewhere", "nowhere", "locks"])
def test_a_link_gives_way_to_a_directory_and_what_it_led_to_is_left_alone(tmp_path: Path, target: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "locks"
    path.symlink_to(tmp_path / target)
    assert have_own_directory(path, UID)
    assert path.is_dir()
    assert not path.is_symlink()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_gives_way_too(tmp_path: Path) -> None:
    (tmp_path / "locks").touch()
    assert have_own_directory(tmp_path / "locks", UID)


def test_another_users_directory_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    assert not have_own_directory(tmp_path / "locks", UID + 1)


def test_where_nothing_can_be_made_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert not have_own_directory(tmp_path / "file" / "locks", UID)
