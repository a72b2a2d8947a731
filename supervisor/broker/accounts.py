"""The books: budget, ledger, metrics and problems, kept together, one entry a request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from supervisor.broker.budget import Budget, Refusal, Reservation, shown, variable
from supervisor.broker.ledger import Ledger
from supervisor.broker.usage import (
    BYTES_PER_TOKEN,
    LONGEST_ANSWER_TOKENS,
    USUAL_ANSWER_TOKENS,
    Meter,
    RequestReader,
    Usage,
)
from supervisor.clock import Clock
from supervisor.health.metrics import Metrics
from supervisor.health.problems import Problems

NEAR, SPENT = "budget-near", "budget-spent"


class Outcome(Protocol):
    """How a request ended."""

    status: int
    complete: bool
    failed: bool


class Accounts:
    """What the forwarder tells about every request."""

    def __init__(self, budget: Budget, ledger: Ledger, *, clock: Clock, metrics: Metrics, problems: Problems) -> None:
        self._budget = budget
        self._ledger = ledger
        self._clock = clock
        self._problems = problems
        self._watched = asyncio.Event()
        self._requests = metrics.counter(
            "model_requests", "Requests to model providers.", "provider", "model", "outcome"
        )
        self._tokens = metrics.counter("model_tokens", "Tokens used.", "provider", "model", "kind")
        self._dollars = metrics.counter("model_dollars", "What they cost, by the price table.", "provider", "model")
        self._refused = metrics.counter("model_requests_refused", "Refused by a budget.", "provider", "unit", "window")

    def admit(self, provider: str, tokens: int, *, answers: bool = False) -> Reservation | Refusal:
        """See `Budget.admit`. `tokens` of input are set aside, and, if it `answers` in text, a usual answer; at the
        price of the dearest model, since which one it is stands in a body that has not been read."""
        answer = USUAL_ANSWER_TOKENS if answers else 0
        admitted = self._budget.admit(tokens + answer, self._ledger.most(Usage(tokens, answer)))
        if isinstance(admitted, Refusal):
            self._refused.labels(provider, admitted.unit.value, admitted.window.value).inc()
        self._review()
        return admitted

    def grow(self, provider: str, reservation: Reservation, tokens: int) -> Refusal | None:
        """See `Budget.grow`."""
        refusal = self._budget.grow(reservation, tokens, self._ledger.most(Usage(tokens)))
        if refusal is not None:
            self._refused.labels(provider, refusal.unit.value, refusal.window.value).inc()
        return refusal

    def settle(
        self,
        provider: str,
        reservation: Reservation,
        *,
        request: RequestReader,
        meter: Meter | None,
        outcome: Outcome,
    ) -> None:
        """A request has ended. One that the provider refused costs nothing; one that broke off before its answer may
        have cost its input."""
        usage = Usage()
        if meter is not None:
            usage = meter.result(request_bytes=request.size, complete=outcome.complete)
        elif outcome.status == 0 and request.size:
            # Who hangs up first may leave a response behind that is made in the background.
            left_behind = request.outlives and request.whole and not outcome.failed
            output = LONGEST_ANSWER_TOKENS if left_behind else 0
            usage = Usage(input=request.size // BYTES_PER_TOKEN, output=output, estimated=True)
        model = (meter.model if meter else "") or request.model
        dollars = self._ledger.price(model, usage)
        self._budget.settle(reservation, tokens=usage.total, dollars=dollars)
        label = self._ledger.add(provider, model, usage, dollars)
        self._count(provider, label, usage, dollars, _name(outcome))
        self._review()

    def _count(self, provider: str, model: str, usage: Usage, dollars: float, outcome: str) -> None:
        self._requests.labels(provider, model, outcome).inc()
        kinds = {
            "input": usage.input,
            "output": usage.output,
            "cache-read": usage.cache_read,
            "cache-write": usage.cache_write,
        }
        for kind, tokens in kinds.items():
            if tokens:
                self._tokens.labels(provider, model, kind).inc(tokens)
        if dollars:
            self._dollars.labels(provider, model).inc(dollars)

    def _review(self) -> None:
        """Show what is nearly, or wholly, used up."""
        near = self._budget.near()
        spent = [refusal for refusal in near if refusal.used >= refusal.limit]
        self._show(SPENT, spent, "used up: the agent's model requests are refused")
        self._show(NEAR, [refusal for refusal in near if refusal not in spent], "nearly used up")
        if near:
            self._watched.set()
        else:
            self._watched.clear()

    def _show(self, code: str, limits: list[Refusal], what: str) -> None:
        if not limits:
            self._problems.clear(code)
            return
        said = "; ".join(
            f"{shown(limit.unit, limit.used)} of {shown(limit.unit, limit.limit)} {limit.unit.value} of this "
            f"{limit.window.value}, until {limit.resets_at:%Y-%m-%d %H:%M} UTC"
            for limit in limits
        )
        names = ", ".join(variable(limit.unit, limit.window) for limit in limits)
        self._problems.report(
            code, f"the budget is {what}: {said}", f"wait, look at what the agent does, or raise {names}"
        )

    async def watch(self) -> None:
        """Take problems back when a window begins anew, without a request having to come. Never returns."""
        while True:
            await self._watched.wait()
            near = self._budget.near()
            if near:
                await self._clock.sleep(min(limit.seconds for limit in near))
            self._review()

    def resume(self, state: Mapping[str, Any] | None) -> None:
        """Go on from an earlier life."""
        self._ledger.resume(state)
        self._review()

    def state(self) -> dict[str, Any] | None:
        """For the next life; None while nothing was resumed."""
        return self._ledger.state()

    def report(self) -> dict[str, Any]:
        """`budgets` and `usage`, for `/status`."""
        return {"budgets": self._budget.report(), "refused": self._budget.refused, "usage": self._ledger.report()}


def _name(outcome: Outcome) -> str:
    if outcome.status >= 400:
        return "refused" if outcome.status < 500 else "error"
    if outcome.complete:
        return "ok"
    return "broken-off" if outcome.status else "unreachable"
