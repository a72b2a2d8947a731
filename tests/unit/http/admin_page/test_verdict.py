import copy
from typing import Any

import pytest

from supervisor.http.admin.verdict import Mood, verdict
from tests.unit.http.admin_page.support import FakeDaemon


def status(**changes: Any) -> dict[str, Any]:
    """A healthy daemon's, changed: `agent__state` goes into `agent`."""
    document = copy.deepcopy(FakeDaemon().document)
    for name, value in changes.items():
        part, _, key = name.partition("__")
        if key:
            document[part][key] = value
        else:
            document[part] = value
    return document


def problem(code: str) -> list[dict[str, Any]]:
    return [{"code": code, "message": "m", "hint": "h", "since": 1.0}]


def test_a_healthy_daemon_is_alive_and_saved() -> None:
    found = verdict(status())
    assert (found.mood, found.headline, found.safe) == (Mood.GOOD, "Alive and well", True)
    assert "Everything is saved" in found.data


def test_a_change_under_way_is_no_alarm() -> None:
    found = verdict(status(snapshots__pending=True))
    assert (found.mood, found.safe) == (Mood.GOOD, True)
    assert found.headline == "Alive, saving a change"


@pytest.mark.parametrize(
    ("document", "mood", "headline", "safe"),
    [
        (status(problems=problem("bucket")), Mood.BAD, "Alive, with a problem", False),
        (status(problems=problem("event-loop-slow")), Mood.WARN, "Alive, with a problem", True),
        (status(problems=problem("snapshot-shrunk")), Mood.WARN, "Alive, with a problem", False),
        (
            status(problems=problem("agent-crash-loop"), ready=False, agent__state="crash-loop"),
            Mood.BAD,
            "The agent keeps dying and was given up",
            True,
        ),
        (status(ready=False, agent__state="stopped"), Mood.WARN, "The agent is stopped", True),
        (status(ready=False, agent__state="backing-off"), Mood.BAD, "The agent died and is started again soon", True),
        (status(ready=False, agent__state="held"), Mood.BUSY, "The agent is held still for a restore", True),
        (status(ready=False, phase="restore"), Mood.BUSY, "Bringing back the agent's memory", True),
        (
            status(ready=False, phase="drain", problems=problem("fenced")),
            Mood.BAD,
            "Another machine has taken over; this one is stopping",
            False,
        ),
        (status(ready=False, phase="claim", problems=problem("bucket")), Mood.BAD, "Taking over the bucket", False),
        (status(snapshots__last=None), Mood.WARN, "Alive and well", False),
        (status(phase="boot", ready=False, snapshots__last=None), Mood.BUSY, "Waking up", True),
    ],
)
def test_every_state_has_a_word_for_the_agent_and_one_for_the_data(
    document: dict[str, Any], mood: Mood, headline: str, safe: bool
) -> None:
    found = verdict(document)
    assert (found.mood, found.headline, found.safe) == (mood, headline, safe)


def test_a_bucket_that_does_not_answer_is_never_taken_for_an_empty_one() -> None:
    found = verdict(status(phase="claim", ready=False, snapshots__last=None, bucket__reachable=False))
    assert "does not answer" in found.data
    assert not found.safe


def test_maintenance_is_said_first_where_all_else_is_well() -> None:
    found = verdict(status(problems=problem("maintenance")), maintenance=True)
    assert (found.headline, found.mood) == ("Alive and well; maintenance is on", Mood.WARN)
    worse = verdict(status(problems=[*problem("maintenance"), *problem("bucket")]), maintenance=True)
    assert (worse.headline, worse.mood) == ("Alive, with a problem", Mood.BAD)
