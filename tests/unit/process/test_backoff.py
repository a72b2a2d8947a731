from __future__ import annotations

import pytest

from supervisor.process.backoff import Backoff


def steady() -> float:
    return 0.5


def test_the_wait_doubles_up_to_a_minute() -> None:
    backoff = Backoff(random=steady)
    assert [backoff.failed(n * 1000.0) for n in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_no_number_of_failures_is_too_many() -> None:
    backoff = Backoff(random=steady)
    assert [backoff.failed(n * 1000.0) for n in range(3000)][-1] == 60


@pytest.mark.parametrize(("drawn", "seconds"), [(0.0, 0.9), (0.5, 1.0), (0.999999, 1.1)])
def test_jitter_is_a_tenth_either_way(drawn: float, seconds: float) -> None:
    assert Backoff(random=lambda: drawn).failed(0) == pytest.approx(seconds, abs=1e-5)


def test_a_minute_of_health_makes_the_next_wait_short_again() -> None:
    backoff = Backoff(random=steady)
    backoff.failed(0)
    backoff.failed(10)
    assert not backoff.lived(59.9)
    assert backoff.failed(20) == 4
    assert backoff.lived(60)
    assert backoff.failed(30) == 1


def test_five_failed_lives_in_ten_minutes_are_a_crash_loop() -> None:
    backoff = Backoff(random=steady)
    for moment in (0, 100, 200, 300):
        backoff.failed(moment)
        assert not backoff.crash_loop(moment)
    backoff.failed(600)
    assert backoff.crash_loop(600)
    assert not backoff.crash_loop(601)


def test_an_operator_resets_everything() -> None:
    backoff = Backoff(random=steady)
    for _ in range(5):
        backoff.failed(0)
        backoff.free_restart(0)
    backoff.reset()
    assert not backoff.crash_loop(0)
    assert backoff.free_restart(0)
    assert backoff.failed(0) == 1


def test_restarts_that_the_agent_asks_for_are_free_until_there_are_too_many() -> None:
    backoff = Backoff()
    assert [backoff.free_restart(n) for n in range(6)] == [True] * 5 + [False]
    assert backoff.free_restart(61)
