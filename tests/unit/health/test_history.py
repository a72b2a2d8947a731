from itertools import pairwise

from supervisor.health.history import INTERVAL_SECONDS, History
from supervisor.health.resources import Resources, Usage
from tests.support.clock import FakeClock


class Looks:
    """A machine whose memory use is set by the test."""

    def __init__(self) -> None:
        self.used = 0

    def __call__(self) -> Resources:
        return Resources(memory=Usage(self.used, 1000))


def used(history: History) -> list[int]:
    return [point.resources.memory.used for point in history.points if point.resources.memory]


def test_a_week_needs_no_more_points_than_an_hour() -> None:
    clock, looks = FakeClock(), Looks()
    history = History(clock, looks, points=16)
    began = clock.time()
    for _ in range(40_000):
        history.observe()
        clock._now += INTERVAL_SECONDS
    points = history.points
    assert 8 <= len(points) <= 17
    assert points[0].at - began < 0.15 * (clock.time() - began)
    assert points[-1].at == clock.time() - INTERVAL_SECONDS
    assert all(before.at < after.at for before, after in pairwise(points))


def test_a_peak_is_never_smoothed_away() -> None:
    looks = Looks()
    history = History(FakeClock(), looks, points=8)
    for number in range(1000):
        looks.used = 900 if number == 137 else 100
        history.observe()
    assert used(history).count(900) == 1


def test_what_the_machine_does_not_tell_leaves_no_trace() -> None:
    history = History(FakeClock(), Resources, points=4)
    for _ in range(20):
        history.observe()
    assert used(history) == []


async def test_it_looks_by_the_clock_until_it_is_cancelled() -> None:
    import asyncio

    clock, looks = FakeClock(), Looks()
    history = History(clock, looks)
    task = asyncio.ensure_future(history.run())
    await clock.advance(3 * INTERVAL_SECONDS)
    assert len(history.points) == 4
    looks.used = 7
    assert history.with_now()[-1].resources.memory == Usage(7, 1000)
    task.cancel()
    await asyncio.wait([task])
