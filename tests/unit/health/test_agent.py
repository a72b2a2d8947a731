from dataclasses import dataclass

import pytest

from supervisor.health.agent import AgentHealth
from supervisor.health.metrics import Metrics
from supervisor.health.problems import Problems
from tests.support.clock import FakeClock


@dataclass
class Seen:
    state: str
    detail: str = ""
    restarts: int = 0
    rolled_back: str = ""


@pytest.fixture
def problems() -> Problems:
    return Problems(FakeClock())


@pytest.fixture
def health(problems: Problems) -> AgentHealth:
    return AgentHealth(problems, Metrics(problems=problems.codes, loop_lag_seconds=lambda: 0.0))


def test_each_sick_state_is_a_problem_that_goes_when_the_agent_is_well(health: AgentHealth, problems: Problems) -> None:
    for state, code in [("backing-off", "agent-unhealthy"), ("crash-loop", "agent-crash-loop")]:
        health.observe(Seen(state, "exited with 1"))
        assert code in problems
        assert "exited with 1" in problems.current()[-1].message
        health.observe(Seen("healthy"))
        assert len(problems) == 0


def test_a_crash_loop_offers_the_snapshot_before(health: AgentHealth, problems: Problems) -> None:
    health.observe(Seen("crash-loop"))
    assert "moltinit restore" in problems.current()[0].hint


def test_a_config_that_was_rolled_back_stays_a_notice_while_the_agent_is_healthy(
    health: AgentHealth, problems: Problems
) -> None:
    health.observe(Seen("healthy", rolled_back="/home/openclaw.json.broken"))
    assert "/home/openclaw.json.broken" in problems.current()[0].message
    health.observe(Seen("healthy"))
    assert "config-rolled-back" not in problems
