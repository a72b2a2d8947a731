from __future__ import annotations

import pytest

from supervisor.errors import SettingsError
from supervisor.init.cell.user import choose_user


@pytest.mark.root
@pytest.mark.parametrize(
    ("wanted", "ids"), [("4242", (4242, 4242)), ("4242:77", (4242, 77)), ("nobody", (65534, 65534))]
)
def test_a_user_is_named_or_numbered(wanted: str, ids: tuple[int, int]) -> None:
    assert choose_user(wanted).switch == ids


@pytest.mark.root
def test_root_takes_a_number_where_no_user_was_made() -> None:
    user = choose_user(None)
    assert user.own
    assert user.uid not in (0, 65534)


@pytest.mark.root
@pytest.mark.parametrize("wanted", ["0", "root", "no-such-user-here"])
def test_root_and_users_that_are_not_there_are_refused(wanted: str) -> None:
    with pytest.raises(SettingsError, match=wanted):
        choose_user(wanted)


def test_the_protection_can_be_given_up_by_name() -> None:
    user = choose_user("same")
    assert (user.switch, user.own) == (None, False)
    assert user.hint == "", "it was asked for"


def test_who_is_not_root_keeps_its_user_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "only root" in choose_user(None).reason
    assert choose_user(None).hint
    with pytest.raises(SettingsError, match="only root"):
        choose_user("agent")
