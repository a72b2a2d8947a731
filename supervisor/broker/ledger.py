"""What the models were used for this month, model by model, and how it gets from one life to the next.

It travels in HEAD: written by the daemon alone, with every commit, so that it costs no request, is out of the agent's
reach, and is not taken back by restoring an older snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from supervisor.broker.budget import Budget, Unit, Window
from supervisor.broker.prices import Prices
from supervisor.broker.usage import Usage
from supervisor.clock import Clock

MAX_MODELS = 32
"""Names of models come from the agent: beyond so many they are one, `other`."""
MAX_NAME_CHARACTERS = 80
OTHER = "other"

Count = Annotated[int, msgspec.Meta(ge=0)]

_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/@+~")


class Row(msgspec.Struct, kw_only=True):
    """One model's use in one month."""

    provider: str
    model: str
    requests: Count = 0
    input: Count = 0
    output: Count = 0
    cache_read: Count = 0
    cache_write: Count = 0
    estimated: Count = 0
    """Requests whose tokens were estimated."""
    dollars: float = 0


class _Window(msgspec.Struct):
    began: str = ""
    requests: float = 0
    tokens: float = 0
    dollars: float = 0


class _State(msgspec.Struct):
    """As it stands in HEAD (docs/format.md)."""

    month: str = ""
    windows: dict[str, _Window] = msgspec.field(default_factory=dict)
    models: list[Row] = msgspec.field(default_factory=list)


class Ledger:
    """Counts what was used; asks the price table what it costs."""

    def __init__(self, budget: Budget, prices: Prices, clock: Clock) -> None:
        self._budget = budget
        self._prices = prices
        self._clock = clock
        self._rows: dict[tuple[str, str], Row] = {}
        self._month = ""
        self._loaded = False

    def label(self, provider: str, model: str) -> str:
        """The model's name where it is one, and there are not too many already."""
        clean = "".join(c for c in model if c in _ALLOWED)[:MAX_NAME_CHARACTERS] or "unknown"
        full = len(self._rows) >= MAX_MODELS
        return OTHER if full and (provider, clean) not in self._rows else clean

    def price(self, model: str, usage: Usage) -> float:
        """Dollars; 0 without a price table."""
        return self._prices.dollars(model, usage)

    def most(self, usage: Usage) -> float:
        """Dollars of it at the dearest model; 0 without a price table."""
        return self._prices.most(usage)

    def add(self, provider: str, model: str, usage: Usage, dollars: float) -> str:
        """A request was answered; returns the name that the model is counted under."""
        self._turn()
        label = self.label(provider, model)
        row = self._rows.setdefault((provider, label), Row(provider=provider, model=label))
        row.requests += 1
        row.input += usage.input
        row.output += usage.output
        row.cache_read += usage.cache_read
        row.cache_write += usage.cache_write
        row.estimated += usage.estimated
        row.dollars = round(row.dollars + dollars, 6)
        return label

    def _turn(self) -> None:
        month = datetime.fromtimestamp(self._clock.time(), UTC).strftime("%Y-%m")
        if month > self._month:
            self._rows.clear()
        self._month = month

    def report(self) -> list[dict[str, Any]]:
        """This month's rows, the most used first."""
        self._turn()
        rows = sorted(self._rows.values(), key=lambda row: -(row.input + row.output + row.cache_read + row.cache_write))
        return [msgspec.to_builtins(row) for row in rows]

    def state(self) -> dict[str, Any] | None:
        """What is to be written to HEAD; None until what HEAD says was taken up: it must not be written over."""
        if not self._loaded:
            return None
        self._turn()
        return {"month": self._month, "windows": self._budget.state(), "models": self.report()}

    def resume(self, state: Mapping[str, Any] | None) -> None:
        """Go on from what HEAD says. What is no such state counts as none."""
        if self._loaded:
            return
        self._loaded = True
        self._turn()
        try:
            read = msgspec.convert(state or {}, _State)
        except msgspec.ValidationError:
            return
        for name, window in read.windows.items():
            if name in (Window.DAY, Window.MONTH):
                used = {Unit.REQUESTS: window.requests, Unit.TOKENS: window.tokens, Unit.DOLLARS: window.dollars}
                self._budget.resume(Window(name), window.began, used)
        if read.month >= self._month:
            for row in read.models[:MAX_MODELS]:
                self._rows[row.provider, row.model] = row
