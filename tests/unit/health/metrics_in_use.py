"""Metrics in which every name has a sample, and what is exported then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from supervisor.broker.accounts import Accounts
from supervisor.broker.budget import Budget, Refusal, Reservation, Unit, Window
from supervisor.broker.forward import Outcome
from supervisor.broker.ledger import Ledger
from supervisor.broker.prices import Price, Prices
from supervisor.broker.usage import RequestReader
from supervisor.health.metrics import Metrics
from supervisor.health.problems import Problems
from supervisor.health.resources import Resources, Usage
from tests.support.clock import FakeClock


def metrics_in_use() -> Metrics:
    """Everything has happened once."""
    made = Metrics(
        problems=lambda: ("bucket", "fenced"),
        loop_lag_seconds=lambda: 0.25,
        resources=lambda: Resources(memory=Usage(300, 1000), disk=Usage(4000, 10_000)),
        resident_bytes=lambda: 1000,
        time=lambda: 1060.0,
    )
    made.phase_ended("boot", 0.5, target="claim")
    made.snapshot_taken("change", seconds=0.2, read_bytes=10, uploaded_bytes=4, sequence=7, committed_at=1000.0)
    made.snapshot_failed("change")
    made.bucket_request("put", "A", "ok", sent_bytes=100)
    made.bucket_request("get", "B", "missing", received_bytes=5)
    made.agent_restarted()
    made.agent_up(True)
    made.egress_denied(3)
    made.http_request("agent", 200)
    made.http_request("agent", 502)
    _model_requests(made)
    return made


def _model_requests(metrics: Metrics) -> None:
    """One that is answered, and one that a budget refuses."""
    clock = FakeClock()
    budget = Budget({(Unit.REQUESTS, Window.DAY): 1}, soft=0.8, clock=clock)
    prices = Prices({"model": Price(1.0, 1.0, 1.0, 1.0)})
    accounts = Accounts(budget, Ledger(budget, prices, clock), clock=clock, metrics=metrics, problems=Problems(clock))
    admitted = accounts.admit("anthropic", 1)
    assert isinstance(admitted, Reservation)
    request = RequestReader("model")
    request.feed(b"x" * 1000)
    accounts.settle("anthropic", admitted, request=request, meter=None, outcome=Outcome())
    assert isinstance(accounts.admit("anthropic", 1), Refusal)


@dataclass(frozen=True, order=True)
class Exported:
    """One name, as the documentation lists it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


def exported() -> Iterator[Exported]:
    """Every name that is exported."""
    for family in text_string_to_metric_families(metrics_in_use().render().decode()):
        if family.name.endswith("_created"):
            continue
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield Exported(name, family.type, tuple(sorted(labels)), family.documentation)
