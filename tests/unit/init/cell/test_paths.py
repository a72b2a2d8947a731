from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.init.cell import paths

UID = os.getuid()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine in small, with one temporary directory."""
    for name in ("shared", "home", "data/inner", "secret"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(paths, "SHARED", (str(tmp_path / "shared"),))
    monkeypatch.setattr(paths, "DEVICES", ())
    return tmp_path


def granted(place: Path, *extra: str, own: tuple[str, ...] = ("home",), asked: tuple[str, ...] = ()) -> set[str]:
    hidden = [place / "secret"]
    wanted = paths.owned([place / name for name in asked], UID)
    grants = paths.writable([place / name for name in own], [place / name for name in extra], hidden, wanted)
    return {os.path.relpath(path, place) for path in grants}


def test_every_grant_is_a_resolved_path(place: Path) -> None:
    (place / "link").symlink_to("data")
    assert granted(place, "link", own=("link/../home",)) == {"shared", "home", "data"}


def test_what_lies_in_a_granted_directory_has_no_grant_of_its_own_whatever_the_order(place: Path) -> None:
    (place / "shared" / "locks").mkdir()
    assert granted(place, "data/inner", "data", "home/x", asked=("shared/locks",)) == {"shared", "home", "data"}


def test_a_link_that_the_agent_may_have_put_there_grants_nothing(place: Path) -> None:
    for name in ("shared/locks", "home/link", "data/link"):
        (place / name).symlink_to("/usr")
    (place / "by-way-of").symlink_to("home/link/share")
    assert granted(place, "home/link", "home/link/share", "data", "data/link", "by-way-of", "shared/locks") == {
        *("shared", "home", "data"),
    }
    assert granted(place, own=("home", "shared/locks"), asked=("shared/locks",)) == {"shared", "home"}


def test_links_without_end_grant_nothing(place: Path) -> None:
    (place / "loop").symlink_to("loop")
    assert granted(place, "loop") == {"shared", "home"}


def test_a_directory_that_a_program_asks_for_is_granted_where_nothing_else_covers_it(place: Path) -> None:
    (place / "locks").mkdir()
    assert "locks" in granted(place, asked=("locks",))


def test_a_program_is_given_only_directories_of_its_user_and_no_links(place: Path) -> None:
    (place / "link").symlink_to("data")
    (place / "file").touch()
    wanted = [place / name for name in ("data", "link", "file", "missing", "link/inner")]
    assert paths.owned(wanted, UID) == [place / "data", place / "data" / "inner"]
    assert paths.owned(wanted, UID + 1) == []


def test_a_temporary_directory_with_something_hidden_is_not_granted(place: Path) -> None:
    hidden = [place / "shared" / "deep" / "secret"]
    assert paths.writable([place / "home"], [], hidden) == [str(place / "home")]
