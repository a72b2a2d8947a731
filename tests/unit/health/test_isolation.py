from __future__ import annotations

from supervisor.health.isolation import Isolation
from supervisor.health.problems import Problems
from supervisor.init.cell.measure import Finding
from tests.support.clock import FakeClock


def test_a_measure_that_is_off_and_could_be_on_is_a_problem_until_it_is_on() -> None:
    problems = Problems(FakeClock())
    isolation = Isolation(problems)
    isolation.note([Finding("landlock", False, "no kernel support", "use another kernel")])
    assert [problem.code for problem in problems.current()] == ["isolation-landlock"]
    isolation.note([Finding("landlock", True)])
    assert problems.current() == ()
    assert [(one.measure, one.state) for one in isolation.measures] == [("landlock", "on")]


def test_a_measure_that_nobody_can_have_here_is_shown_and_no_problem() -> None:
    problems = Problems(FakeClock())
    isolation = Isolation(problems)
    isolation.note([Finding("own-user", False, "it was asked for")])
    assert problems.current() == ()
    assert isolation.measures[0].reason == "it was asked for"
