from __future__ import annotations

from typing import Any

import pytest

from agent_runtime.contract import Activity
from agent_runtime.openclaw.activity import read

COUNTS = {"queueSize": 0, "pendingReplies": 0, "embeddedRuns": 0, "cronRuns": 0, "rootRequests": 0, "totalActive": 0}
IDLE = {"safe": True, "counts": COUNTS, "blockers": []}
CRON = {"enabled": True, "jobs": 3, "nextWakeAtMs": 1_795_601_982_269}


def test_an_idle_gateway_says_when_its_next_job_is_due() -> None:
    assert read(IDLE, CRON) == Activity(busy=False, doing=(), next_wake=1_795_601_982.269)


def test_what_a_restart_would_cut_short_makes_it_busy() -> None:
    counts = {**COUNTS, "embeddedRuns": 1, "cronRuns": 2, "totalActive": 3}
    activity = read({"safe": False, "counts": counts}, CRON)
    assert activity.busy
    assert activity.doing == ("embeddedRuns", "cronRuns")


@pytest.mark.parametrize(
    "preflight",
    [
        {},
        {"safe": True},
        {"safe": True, "counts": "none"},
        {"counts": COUNTS},
        {"safe": "yes", "counts": COUNTS},
        {"safe": True, "counts": {**COUNTS, "somethingNew": "many"}},
        {"safe": True, "counts": {**COUNTS, "totalActive": None}},
    ],
)
def test_an_answer_that_does_not_say_counts_as_busy(preflight: dict[str, Any]) -> None:
    assert read(preflight, CRON).busy


@pytest.mark.parametrize("at", [None, 0, -1, True, "soon", 1e30])
def test_no_time_is_no_wake(at: object) -> None:
    assert read(IDLE, {"enabled": True, "nextWakeAtMs": at}).next_wake is None


def test_jobs_that_are_switched_off_wake_nobody() -> None:
    assert read(IDLE, {**CRON, "enabled": False}).next_wake is None
