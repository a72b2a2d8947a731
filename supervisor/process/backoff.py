"""How long to wait before the next life, and when to stop trying."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Seconds and counts of the restart policy.

    A crash loop is `failures` failed lives within `failure_window`. Restarts that the agent asks for need no
    wait, but more than `free_restarts` of them within `free_restart_window` are counted as failures, so that
    an agent that exits with 0 at once cannot spin.
    """

    initial: float = 1.0
    factor: float = 2.0
    maximum: float = 60.0
    jitter: float = 0.1
    healthy_seconds: float = 60.0
    failures: int = 5
    failure_window: float = 600.0
    free_restarts: int = 5
    free_restart_window: float = 60.0


class Backoff:
    """The memory of failed lives. Moments are monotonic seconds, handed in by the caller.

    Args:
        random: uniform in [0, 1); the source of the jitter.
    """

    def __init__(self, policy: BackoffPolicy | None = None, *, random: Callable[[], float] = random.random) -> None:
        self.policy = policy or BackoffPolicy()
        self._random = random
        self._in_a_row = 0
        self._failures: deque[float] = deque(maxlen=self.policy.failures)
        self._free_restarts: deque[float] = deque(maxlen=self.policy.free_restarts)

    def failed(self, now: float) -> float:
        """A life ended in failure; returns the seconds to wait before the next one."""
        self._failures.append(now)
        policy = self.policy
        # The exponent is bounded: a float overflows at 2**1024, after a long enough night.
        delay = min(policy.initial * policy.factor ** min(self._in_a_row, 64), policy.maximum)
        self._in_a_row += 1
        return delay * (1 + policy.jitter * (2 * self._random() - 1))

    def crash_loop(self, now: float) -> bool:
        """Have there been so many failed lives that another try would be no better?"""
        recent = self._failures
        return len(recent) == self.policy.failures and now - recent[0] <= self.policy.failure_window

    def lived(self, healthy_seconds: float) -> bool:
        """A life ended after so many healthy seconds; enough of them make the next wait short again.

        Its failure still counts towards a crash loop: an agent that dies every two minutes does not work.
        """
        enough = healthy_seconds >= self.policy.healthy_seconds
        if enough:
            self._in_a_row = 0
        return enough

    def free_restart(self, now: float) -> bool:
        """May the agent be started again at once, as it asked for? False: it asks too often."""
        recent = self._free_restarts
        if len(recent) == self.policy.free_restarts and now - recent[0] <= self.policy.free_restart_window:
            return False
        recent.append(now)
        return True

    def reset(self) -> None:
        """Forget everything: an operator has stepped in."""
        self._in_a_row = 0
        self._failures.clear()
        self._free_restarts.clear()
