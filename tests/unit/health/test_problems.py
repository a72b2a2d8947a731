from supervisor.health.problems import MESSAGE_LIMIT, Problems
from tests.support.clock import FakeClock


async def test_a_problem_reported_again_keeps_its_first_time_and_takes_the_new_words() -> None:
    clock = FakeClock()
    problems = Problems(clock)
    problems.report("disk", "90 % full", "make room")
    first = clock.time()
    await clock.advance(60)
    problems.report("disk", "95 % full")
    assert problems.listing() == [{"code": "disk", "message": "95 % full", "hint": "", "since": first}]


def test_a_cleared_problem_is_gone_and_clearing_it_again_is_no_error() -> None:
    problems = Problems(FakeClock())
    problems.report("disk", "full")
    problems.clear("disk")
    problems.clear("disk")
    assert problems.listing() == []
    assert "disk" not in problems


async def test_a_problem_that_comes_back_starts_anew() -> None:
    clock = FakeClock()
    problems = Problems(clock)
    problems.report("disk", "full")
    problems.clear("disk")
    await clock.advance(5)
    problems.report("disk", "full")
    assert problems.current()[0].since == clock.time()


def test_problems_are_listed_oldest_first() -> None:
    problems = Problems(FakeClock())
    for code in ("b", "a", "c"):
        problems.report(code, code)
    problems.report("b", "again")
    assert [problem.code for problem in problems.current()] == ["b", "a", "c"]
    assert len(problems) == 3


def test_an_endless_message_is_clipped() -> None:
    problems = Problems(FakeClock())
    problems.report("agent", "x" * 10_000)
    assert len(problems.current()[0].message) == MESSAGE_LIMIT
