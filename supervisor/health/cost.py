"""What the bucket will cost, from the requests counted so far, at R2's published prices.

Prices and free allowance: developers.cloudflare.com/r2/pricing (standard storage). Reads from R2 to the internet cost
nothing; deletes are free.
"""

from __future__ import annotations

from dataclasses import dataclass

DOLLARS_PER_MILLION_A = 4.50
DOLLARS_PER_MILLION_B = 0.36
DOLLARS_PER_GB_MONTH = 0.015
FREE_A, FREE_B, FREE_GB = 1_000_000, 10_000_000, 10.0
MONTH_SECONDS = 730.5 * 3600
GB = 10**9
ENOUGH_SECONDS = 3600.0
"""Before that the requests of the start itself are most of what was counted."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that is billed; `amount` of it a month, `dollars` without and `due` with the free allowance."""

    name: str
    amount: float
    dollars: float
    due: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A month like the time since the start. `rough`: that time is short."""

    seconds: float
    lines: tuple[Line, Line, Line]
    rough: bool

    @property
    def dollars(self) -> float:
        """A month, had the account no free allowance left."""
        return sum(line.dollars for line in self.lines)

    @property
    def due(self) -> float:
        """A month, where nothing else in the account uses the free allowance."""
        return sum(line.due for line in self.lines)


def estimate(*, seconds: float, class_a: float, class_b: float, stored_bytes: float) -> Estimate:
    """Extrapolate.

    Args:
        seconds: how long the requests were counted.
        class_a, class_b: requests so far, by R2's classes.
        stored_bytes: what lies in the bucket.
    """
    months = max(seconds, 1.0) / MONTH_SECONDS
    return Estimate(
        seconds=seconds,
        lines=(
            _line("class A requests", class_a / months, FREE_A, DOLLARS_PER_MILLION_A / 1e6),
            _line("class B requests", class_b / months, FREE_B, DOLLARS_PER_MILLION_B / 1e6),
            _line("stored GB", stored_bytes / GB, FREE_GB, DOLLARS_PER_GB_MONTH),
        ),
        rough=seconds < ENOUGH_SECONDS,
    )


def _line(name: str, amount: float, free: float, price: float) -> Line:
    return Line(name, amount, amount * price, max(0.0, amount - free) * price)
