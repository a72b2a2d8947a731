"""What is wrong right now, in words an operator can act on; not a log: a problem that is over is gone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from supervisor.clock import Clock

MESSAGE_LIMIT = 500
"""Characters kept of a message or hint: some quote what the agent or the bucket said."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Args:
        code: machine name, stable: `bucket-unreachable`.
        message: one sentence that names the thing and the value; no secrets.
        hint: what to do about it, or empty.
        since: when it was first reported, seconds since 1970.
    """

    code: str
    message: str
    hint: str
    since: float

    def as_dict(self) -> dict[str, Any]:
        """The problem as `/status` shows it."""
        return asdict(self)


class Problems:
    """The problems of this daemon, at most one per code. Reporting again changes the words, never `since`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[str, Problem] = {}

    def report(self, code: str, message: str, hint: str = "") -> None:
        """A condition holds (again)."""
        message, hint = _clip(message), _clip(hint)
        known = self._open.get(code)
        if known is None:
            self._open[code] = Problem(code, message, hint, self._clock.time())
        else:
            self._open[code] = replace(known, message=message, hint=hint)

    def clear(self, code: str) -> None:
        """A condition is over; nothing happens where it was not reported."""
        self._open.pop(code, None)

    def current(self) -> tuple[Problem, ...]:
        """The open problems, the oldest first."""
        return tuple(self._open.values())

    def listing(self) -> list[dict[str, Any]]:
        """The open problems as `{"code", "message", "hint", "since"}`, the oldest first."""
        return [problem.as_dict() for problem in self._open.values()]

    def codes(self) -> tuple[str, ...]:
        """The codes of the open problems, the oldest first."""
        return tuple(self._open)

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, code: object) -> bool:
        return code in self._open


def _clip(text: str) -> str:
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"
