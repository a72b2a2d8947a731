"""A series of numbers as the two paths of a small drawing; the template gives it its text alternative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 240, 48


@dataclass(frozen=True, slots=True)
class Sparkline:
    """`line` and `area` are SVG path data in a box of `WIDTH` by `HEIGHT`."""

    line: str
    area: str


def sparkline(points: Sequence[tuple[float, float]]) -> Sparkline | None:
    """Draw `(moment, share)` pairs, shares from 0 to 1; None where there are too few for a line.

    The vertical scale is always the whole: a line near the top means nearly full, whatever moved.
    """
    if len(points) < 2 or points[-1][0] <= points[0][0]:
        return None
    start, stretch = points[0][0], points[-1][0] - points[0][0]
    places = [
        f"{(at - start) / stretch * WIDTH:.1f} {(1 - min(max(share, 0.0), 1.0)) * (HEIGHT - 2) + 1:.1f}"
        for at, share in points
    ]
    line = "M" + "L".join(places)
    return Sparkline(line, f"{line}L{WIDTH} {HEIGHT}L0 {HEIGHT}Z")
