"""The last healthy config: what becomes it, and when it comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_runtime.openclaw.healthy import HealthyConfig


class Home:
    """A HOME with a config, and with what the gateway says it has accepted."""

    def __init__(self, place: Path) -> None:
        self.config = place / ".openclaw/openclaw.json"
        self.accepted = place / ".openclaw/openclaw.json.last-good"
        self.config.parent.mkdir()
        self.healthy = HealthyConfig(place)

    def live(self, text: str) -> None:
        """A life on this config that proves itself."""
        self.config.write_text(text)
        self.healthy.starting()
        self.healthy.proven()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_config_that_a_life_has_proven_comes_back_and_the_broken_one_is_kept(home: Home) -> None:
    home.live("one")
    home.config.write_text("broken")
    kept = home.healthy.roll_back()
    assert home.config.read_text() == "one"
    assert kept is not None
    assert kept.read_text() == "broken"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_an_edit_that_the_running_gateway_has_accepted_is_healthy_from_then_on(home: Home) -> None:
    home.live("one")
    home.config.write_text("two")
    assert not home.healthy.proven(), "the gateway has not said anything about it yet"
    home.accepted.write_text("two")
    assert home.healthy.proven()
    assert home.healthy.roll_back() is None
    assert home.config.read_text() == "two"


def test_an_edit_that_the_running_gateway_passed_over_is_not_taken_for_healthy(home: Home) -> None:
    home.live("one")
    home.accepted.write_text("one")
    home.config.write_text("not valid")
    assert not home.healthy.proven()
    assert home.healthy.roll_back() is not None
    assert home.config.read_text() == "one"


def test_nothing_is_written_where_nothing_is_new(home: Home, tmp_path: Path) -> None:
    home.live("one")
    before = (tmp_path / ".moltinit/openclaw-config.healthy.json").stat().st_mtime_ns
    assert not home.healthy.proven()
    assert (tmp_path / ".moltinit/openclaw-config.healthy.json").stat().st_mtime_ns == before


def test_without_a_healthy_config_there_is_nothing_to_go_back_to(home: Home) -> None:
    home.config.write_text("broken")
    assert home.healthy.roll_back() is None
    assert home.config.read_text() == "broken"


def test_a_config_that_is_gone_comes_back(home: Home) -> None:
    home.live("one")
    home.config.unlink()
    home.healthy.roll_back()
    assert home.config.read_text() == "one"


def test_a_link_in_the_place_of_the_config_is_not_followed(home: Home, tmp_path: Path) -> None:
    home.live("one")
    (tmp_path / "outside").write_text("outside")
    home.config.unlink()
    home.config.symlink_to(tmp_path / "outside")
    home.healthy.roll_back()
    assert home.config.read_text() == "one"
    assert not home.config.is_symlink()
    assert (tmp_path / "outside").read_text() == "outside"
