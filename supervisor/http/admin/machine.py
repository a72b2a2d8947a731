"""Memory and disk as drawings with words, and a month of requests as dollars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.http.admin.sparkline import Sparkline, sparkline
from supervisor.http.admin.words import dollars, span
from supervisor.units import format_size

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MeterView:
    """Memory or disk: a drawing, and the same in words."""

    name: str
    words: str
    drawing: Sparkline | None
    alternative: str
    used: int
    total: int


def meters(points: Sequence[Document]) -> tuple[MeterView, ...]:
    """Memory and disk; what the machine does not tell is left out."""
    found = []
    for name, title in (("memory", "Memory"), ("disk", "Disk")):
        series = [(point["at"], point["resources"][name]) for point in points if point["resources"][name]]
        if series:
            found.append(_meter(title, series))
    return tuple(found)


def _meter(title: str, series: Sequence[tuple[float, Document]]) -> MeterView:
    shares = [(at, usage["used"] / usage["total"] if usage["total"] else 0.0) for at, usage in series]
    last = series[-1][1]
    peak = max(series, key=lambda entry: entry[1]["used"])[1]["used"]
    words = f"{format_size(last['used'])} of {format_size(last['total'])}, {shares[-1][1]:.0%}"
    stretch = span(series[-1][0] - series[0][0])
    return MeterView(
        name=title,
        words=words,
        drawing=sparkline(shares),
        alternative=f"{title} over the last {stretch}: now {words}; at most {format_size(peak)}.",
        used=last["used"],
        total=last["total"],
    )


def cost_words(cost: Document) -> tuple[tuple[str, str, str], ...]:
    """Rows: what is billed, how much of it a month, and dollars before the free allowance."""
    rows = []
    for line in cost["lines"]:
        amount = f"{line['amount']:.2f}" if line["name"] == "stored GB" else f"{line['amount']:,.0f}"
        rows.append((line["name"], amount, dollars(line["dollars"])))
    return tuple(rows)
