"""Budgets, the ledger, prices: what counts, what refuses, what the next life knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.broker.budget import Budget, Refusal, Reservation, Unit, Window
from supervisor.broker.ledger import MAX_MODELS, OTHER, Ledger
from supervisor.broker.prices import Price, Prices, read_prices
from supervisor.broker.usage import Usage
from supervisor.errors import SettingsError
from tests.support.clock import FakeClock

DAY = 86_400


def admitted(budget: Budget, tokens: int = 0) -> Reservation:
    reservation = budget.admit(tokens)
    assert isinstance(reservation, Reservation)
    return reservation


def budget_of(clock: FakeClock, **limits: float) -> Budget:
    keys = {name: tuple(name.split("_per_")) for name in limits}
    return Budget(
        {(Unit(unit), Window(window)): limits[name] for name, (unit, window) in keys.items()}, soft=0.8, clock=clock
    )


@pytest.mark.parametrize("window", list(Window))
async def test_a_limit_holds_until_its_window_begins_anew(window: Window) -> None:
    clock = FakeClock()
    budget = Budget({(Unit.REQUESTS, window): 2.0}, soft=0.8, clock=clock)
    for _ in range(2):
        budget.settle(admitted(budget), tokens=0, dollars=0)
    refusal = budget.admit(0)
    assert isinstance(refusal, Refusal)
    await clock.advance(refusal.seconds - 1)
    assert isinstance(budget.admit(0), Refusal)
    await clock.advance(1)
    assert isinstance(budget.admit(0), Reservation)


def test_of_several_limits_the_longest_is_told() -> None:
    budget = budget_of(FakeClock(), requests_per_minute=1, tokens_per_month=10)
    budget.settle(admitted(budget), tokens=10, dollars=0)
    refusal = budget.admit(0)
    assert isinstance(refusal, Refusal)
    assert (refusal.unit, refusal.window) == (Unit.TOKENS, Window.MONTH)
    assert f"{refusal.resets_at:%Y-%m-%d}" == "2027-02-01"


def test_many_at_once_do_not_all_find_the_budget_whole() -> None:
    budget = budget_of(FakeClock(), tokens_per_day=1000)
    reservations = [budget.admit(400) for _ in range(10)]
    assert sum(isinstance(reservation, Reservation) for reservation in reservations) == 3
    for reservation in reservations:
        if isinstance(reservation, Reservation):
            budget.settle(reservation, tokens=10, dollars=0)
            budget.settle(reservation, tokens=10, dollars=0)
    assert budget.report()[0]["used"] == 30
    admitted(budget)


def test_dollars_are_set_aside_like_tokens_and_given_back() -> None:
    budget = budget_of(FakeClock(), dollars_per_day=0.01)
    reservations = [budget.admit(1000, 0.004) for _ in range(64)]
    let_in = [reservation for reservation in reservations if isinstance(reservation, Reservation)]
    assert len(let_in) == 3
    refusal = reservations[-1]
    assert isinstance(refusal, Refusal)
    assert refusal.pending
    assert "is reached" not in refusal.message
    assert len(refusal.message) <= 300
    for reservation in let_in:
        budget.settle(reservation, tokens=10, dollars=0.001)
    assert isinstance(budget.admit(1000, 0.02), Reservation)
    assert budget.near() == [], "what is set aside is not used"


def test_a_request_that_grows_beyond_a_limit_is_refused_then_and_gives_everything_back() -> None:
    budget = budget_of(FakeClock(), tokens_per_day=1000, dollars_per_day=1)
    reservation = admitted(budget)
    assert budget.grow(reservation, 900, 0.1) is None
    refusals = [budget.grow(reservation, 200, 0.1), budget.grow(reservation, 1, 2.0)]
    assert [refusal and refusal.unit for refusal in refusals] == [Unit.TOKENS, Unit.DOLLARS]
    budget.settle(reservation, tokens=0, dollars=0)
    assert budget.grow(admitted(budget), 1000, 1.0) is None


async def test_a_clock_that_goes_back_gives_nothing_back() -> None:
    clock = FakeClock()
    budget = budget_of(clock, tokens_per_day=100)
    budget.settle(admitted(budget), tokens=100, dollars=0)
    clock._offset -= 3 * DAY
    assert isinstance(budget.admit(0), Refusal)
    clock._offset += DAY
    assert isinstance(budget.admit(0), Reservation), "a new day is a new day"


async def test_the_next_life_goes_on_counting() -> None:
    clock = FakeClock()

    def life() -> tuple[Budget, Ledger]:
        budget = budget_of(clock, tokens_per_month=100, dollars_per_day=5)
        return budget, Ledger(budget, Prices({"m": Price(1e6, 1e6, 1, 1)}), clock)

    budget, ledger = life()
    assert ledger.state() is None, "what HEAD says is not written over before it was read"
    ledger.resume(None)
    usage = Usage(2, 1)
    budget.settle(admitted(budget), tokens=usage.total, dollars=ledger.price("m", usage))
    ledger.add("anthropic", "m", usage, 3.0)
    state = ledger.state()
    assert state is not None
    budget, ledger = life()
    ledger.resume(state)
    assert [row["used"] for row in budget.report()] == [3, 3]
    assert ledger.report()[0]["dollars"] == 3.0
    await clock.advance(DAY)
    budget, ledger = life()
    ledger.resume(state)
    assert [row["used"] for row in budget.report()] == [3, 0]
    await clock.advance(31 * DAY)
    budget, ledger = life()
    ledger.resume(state)
    assert [row["used"] for row in budget.report()] == [0, 0]
    assert ledger.report() == []


@pytest.mark.parametrize(
    "state",
    [
        {"windows": 7},
        {"windows": {"day": {"began": "9999-01-01", "tokens": "many"}}},
        {"models": [{"provider": "x", "model": "y", "requests": -1}]},
        {"windows": {"century": {}}, "more": [1, 2]},
        {"windows": {"day": {"began": "2027-01-15", "tokens": -1e300}}},
    ],
)
def test_a_state_that_is_none_counts_as_none(state: dict[str, Any]) -> None:
    budget = budget_of(FakeClock(), tokens_per_day=100)
    ledger = Ledger(budget, Prices({}), FakeClock())
    ledger.resume(state)
    assert budget.report()[0]["used"] == 0
    assert ledger.state() is not None


def test_names_of_models_are_bounded_in_number_and_form() -> None:
    clock = FakeClock()
    ledger = Ledger(budget_of(clock), Prices({}), clock)
    names = {ledger.add("openai", f"m{number}\n\x1b[31m" + "x" * 500, Usage(1), 0.0) for number in range(500)}
    assert len(names) == MAX_MODELS + 1
    assert OTHER in names
    assert all(len(name) <= 80 and name.isprintable() for name in names)
    assert sum(row["requests"] for row in ledger.report()) == 500


def test_a_model_without_a_price_costs_what_the_dearest_does() -> None:
    prices = Prices({"small": Price(1, 2, 1, 1), "small-2": Price(3, 4, 3, 3), "large": Price(10, 50, 1, 12)})
    million = Usage(1_000_000, 1_000_000)
    assert prices.dollars("small-1", million) == 3
    assert prices.dollars("small-2-mini", million) == 7
    assert prices.dollars("vendor/large", million) == 60
    assert prices.dollars("unheard-of", million) == 60
    assert Prices({}).dollars("m", million) == 0


def test_what_is_set_aside_is_the_price_of_the_dearest_model_and_of_the_dearest_kind_of_input() -> None:
    prices = Prices({"small": Price(1, 50, 1, 1), "large": Price(10, 40, 1, 12)})
    assert prices.most(Usage(1_000_000, 1_000_000)) == 12 + 50
    assert Prices({}).most(Usage(1)) == 0


def test_prices_are_read_from_a_table(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text('["claude-sonnet"]\ninput = 3.0\noutput = 15\ncache_read = 0.3\n')
    prices = read_prices(file)
    assert prices.dollars("claude-sonnet-4-6", Usage(1_000_000, 1_000_000, 1_000_000, 1_000_000)) == 3 + 15 + 0.3 + 3


@pytest.mark.parametrize("text", ["", "[m]\ninput = 1", "[m]\ninput = -1\noutput = 1", "[m", "m = 1"])
def test_a_table_that_means_nothing_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="MOLTINIT_PRICES"):
        read_prices(file)
