"""How much the agent may use: requests, tokens and dollars, by the minute, the day and the month (UTC).

A request is let in while nothing is used up; what it will cost is known only afterwards, so its input and a usual
answer are set aside meanwhile, or a hundred requests at once would all find the budget whole. The answer that goes
beyond a limit is still passed on; it is the next request that is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from supervisor.clock import Clock


class Unit(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    DOLLARS = "dollars"


class Window(StrEnum):
    """Over which time."""

    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"


Key = tuple[Unit, Window]

_ADJECTIVE = {Window.MINUTE: "per-minute", Window.DAY: "daily", Window.MONTH: "monthly"}


def variable(unit: Unit, window: Window) -> str:
    """The setting of one limit."""
    return f"MOLTINIT_BUDGET_{unit.upper()}_PER_{window.upper()}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A limit that is reached; `seconds` until its window begins anew."""

    unit: Unit
    window: Window
    used: float
    limit: float
    resets_at: datetime
    seconds: int
    pending: bool = False
    """It is not used up: requests that are under way may use the rest, and it may be free when they have ended."""

    @property
    def message(self) -> str:
        """For the user of the agent. It is worded and as short (300 characters) as OpenClaw passes on unchanged."""
        when = (
            f"in {self.seconds} seconds" if self.window is Window.MINUTE else f"at {self.resets_at:%Y-%m-%d %H:%M} UTC"
        )
        if self.pending:
            return (
                f"The model requests under way may use up the {_ADJECTIVE[self.window]} limit of "
                f"{shown(self.unit, self.limit)} {self.unit.value} that is set for this agent. Try again when they "
                f"have ended. The operator can raise {variable(self.unit, self.window)}."
            )
        return (
            f"The {_ADJECTIVE[self.window]} usage limit that is set for this agent is reached "
            f"({shown(self.unit, self.used)} of {shown(self.unit, self.limit)} {self.unit.value}). It resets {when}. "
            f"The operator can raise {variable(self.unit, self.window)}."
        )


def shown(unit: Unit, amount: float) -> str:
    """An amount for people."""
    return f"{amount:,.2f}" if unit is Unit.DOLLARS else f"{round(amount):,}"


@dataclass(slots=True)
class Reservation:
    """A request that is under way."""

    tokens: int
    dollars: float = 0.0
    open: bool = True


class Budget:
    """The counters, and the limits on them.

    Args:
        limits: what is not in it is not limited.
        soft: the part of a limit from which on it is shown as a problem.
    """

    def __init__(self, limits: Mapping[Key, float], *, soft: float, clock: Clock) -> None:
        self._limits = dict(limits)
        self._soft = soft
        self._clock = clock
        self._used: dict[Key, float] = {(unit, window): 0.0 for unit in Unit for window in Window}
        self._began: dict[Window, str] = dict.fromkeys(Window, "")
        self._reserved = dict.fromkeys(Unit, 0.0)
        self._same_minute = (0.0, 0.0)
        self.refused = 0

    def admit(self, tokens: int, dollars: float = 0.0) -> Reservation | Refusal:
        """Let a request in, with `tokens` and `dollars` set aside for it, or say which limit stands against it: of
        several, the one that stands longest."""
        self._turn()
        reached = [key for key in self._limits if self._standing(key) >= self._limits[key]]
        if reached:
            return self._refuse(reached)
        for window in Window:
            self._used[Unit.REQUESTS, window] += 1
        reservation = Reservation(0)
        self._set_aside(reservation, tokens, dollars)
        return reservation

    def grow(self, reservation: Reservation, tokens: int, dollars: float) -> Refusal | None:
        """More is set aside for a request whose size was not known when it was let in, or it is refused now: what
        the others use and have set aside leaves it no room."""
        self._turn()
        more = {Unit.TOKENS: tokens, Unit.DOLLARS: dollars}
        crossed = [
            (unit, window)
            for (unit, window), limit in self._limits.items()
            if unit in more and self._standing((unit, window)) + more[unit] > limit
        ]
        if crossed:
            return self._refuse(crossed)
        self._set_aside(reservation, tokens, dollars)
        return None

    def _set_aside(self, reservation: Reservation, tokens: int, dollars: float) -> None:
        reservation.tokens += tokens
        reservation.dollars += dollars
        self._reserved[Unit.TOKENS] += tokens
        self._reserved[Unit.DOLLARS] += dollars

    def _refuse(self, reached: list[Key]) -> Refusal:
        self.refused += 1
        return max((self._refusal(key) for key in reached), key=lambda refusal: (not refusal.pending, refusal.seconds))

    def settle(self, reservation: Reservation, *, tokens: int, dollars: float) -> None:
        """The request has ended, and cost so much. Once is enough; more often does nothing."""
        if not reservation.open:
            return
        reservation.open = False
        self._turn()
        self._set_aside(reservation, -reservation.tokens, -reservation.dollars)
        for window in Window:
            self._used[Unit.TOKENS, window] += tokens
            self._used[Unit.DOLLARS, window] += dollars

    def _standing(self, key: Key) -> float:
        return self._used[key] + max(self._reserved[key[0]], 0.0)

    def _turn(self) -> None:
        """Begin windows anew that have ended. A clock that went back gives nothing back."""
        begins, ends = self._same_minute
        if begins <= self._clock.time() < ends:
            return
        now = self._now()
        ends = _end(Window.MINUTE, now).timestamp()
        self._same_minute = (ends - 60, ends)
        for window in Window:
            name = _name(window, now)
            if name != self._began[window]:
                if name > self._began[window]:
                    for unit in Unit:
                        self._used[unit, window] = 0.0
                self._began[window] = name

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.time(), UTC)

    def _refusal(self, key: Key) -> Refusal:
        unit, window = key
        now = self._now()
        ends = _end(window, now)
        left = math.ceil((ends - now).total_seconds())
        used, limit = self._used[key], self._limits[key]
        return Refusal(unit, window, used, limit, ends, left, pending=used < limit)

    def near(self) -> list[Refusal]:
        """The limits of which the soft part is used, those that are reached included."""
        self._turn()
        return [self._refusal(key) for key, limit in self._limits.items() if self._used[key] >= limit * self._soft]

    def report(self) -> list[dict[str, Any]]:
        """Every limit: `unit, window, used, limit, resets_at` (seconds since 1970)."""
        self._turn()
        now = self._now()
        return [
            {
                "unit": unit.value,
                "window": window.value,
                "used": round(self._used[unit, window], 6),
                "limit": limit,
                "resets_at": _end(window, now).timestamp(),
            }
            for (unit, window), limit in self._limits.items()
        ]

    # -- from one life to the next

    def state(self) -> dict[str, dict[str, float | str]]:
        """The counters of day and month; a minute is over by the time of the next life."""
        self._turn()
        return {
            window.value: {
                "began": self._began[window],
                **{unit.value: round(self._used[unit, window], 6) for unit in Unit},
            }
            for window in (Window.DAY, Window.MONTH)
        }

    def resume(self, window: Window, began: str, used: Mapping[Unit, float]) -> None:
        """Count on from what an earlier life had used, where its window still lasts (or lies ahead: its clock, or this
        one, was wrong, and what is used is used)."""
        self._turn()
        if began >= self._began[window]:
            for unit, amount in used.items():
                self._used[unit, window] += max(amount, 0.0)


def _name(window: Window, now: datetime) -> str:
    return now.strftime({Window.MINUTE: "%Y-%m-%dT%H:%M", Window.DAY: "%Y-%m-%d", Window.MONTH: "%Y-%m"}[window])


def _end(window: Window, now: datetime) -> datetime:
    if window is Window.MINUTE:
        return now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if window is Window.DAY:
        return midnight + timedelta(days=1)
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
