import asyncio

from supervisor.health.looplag import PROBLEM, LoopLag
from supervisor.health.problems import Problems
from tests.support.clock import FakeClock


async def test_the_worst_lag_of_the_window_is_remembered_and_then_forgotten() -> None:
    clock = FakeClock()
    lag = LoopLag(clock, Problems(clock), window_seconds=60)
    for value in (0.1, 0.4, 0.2):
        lag.observe(value)
        await clock.advance(1)
    assert lag.max_lag() == 0.4
    await clock.advance(57.5)
    assert lag.max_lag() == 0.4
    await clock.advance(1)
    assert lag.max_lag() == 0.2
    await clock.advance(60)
    assert lag.max_lag() == 0.0


async def test_a_lag_above_a_second_is_a_problem_until_it_leaves_the_window() -> None:
    clock = FakeClock()
    problems = Problems(clock)
    lag = LoopLag(clock, problems, window_seconds=60)
    lag.observe(1.0)
    assert PROBLEM not in problems
    lag.observe(1.5)
    assert "1.5 s" in problems.current()[0].message
    await clock.advance(59)
    lag.observe(0.0)
    assert PROBLEM in problems
    await clock.advance(2)
    lag.observe(0.0)
    assert PROBLEM not in problems


async def test_a_timer_that_fires_on_time_measures_no_lag() -> None:
    clock = FakeClock()
    lag = LoopLag(clock, Problems(clock), interval_seconds=0.5)
    task = asyncio.ensure_future(lag.run())
    await clock.advance(10)
    task.cancel()
    await asyncio.wait([task])
    assert lag.max_lag() < 1e-9
