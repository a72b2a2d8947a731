import pytest

from supervisor.health.cost import MONTH_SECONDS, estimate


def test_a_month_of_requests_costs_what_r2_charges() -> None:
    month = estimate(seconds=MONTH_SECONDS, class_a=3_900_000, class_b=1_300_000, stored_bytes=20e9)
    assert [line.dollars for line in month.lines] == pytest.approx([17.55, 0.468, 0.3])
    assert month.dollars == pytest.approx(18.318)
    # A million A, ten million B and 10 GB are free.
    assert [line.due for line in month.lines] == pytest.approx([13.05, 0.0, 0.15])


def test_an_hour_stands_for_a_month() -> None:
    hour = estimate(seconds=3600, class_a=10, class_b=1800, stored_bytes=0)
    assert [line.amount for line in hour.lines] == pytest.approx([7305, 1_314_900, 0])
    assert not hour.rough


def test_the_first_minutes_are_called_rough_and_divide_by_nothing() -> None:
    assert estimate(seconds=0, class_a=5, class_b=5, stored_bytes=0).rough
    assert estimate(seconds=600, class_a=5, class_b=5, stored_bytes=0).rough
