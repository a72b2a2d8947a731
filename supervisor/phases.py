"""One boot as a table: its phases, how each may end, and what follows."""

from __future__ import annotations

from enum import StrEnum

from supervisor.clock import Clock


class Phase(StrEnum):
    """Where a boot stands; docs/lifecycle.md tells what happens in each."""

    BOOT = "boot"
    CLAIM = "claim"
    RESTORE = "restore"
    CONFIGURE = "configure"
    LAUNCH = "launch"
    SERVE = "serve"
    DRAIN = "drain"
    SEAL = "seal"
    EXIT = "exit"


class Outcome(StrEnum):
    """How a phase ended."""

    DONE = "done"
    STOPPED = "stopped"
    """Somebody asked the daemon to stop."""
    HANDED_OVER = "handed-over"
    """A newcomer asked for the repository: seal, and leave it to that one."""
    FENCED = "fenced"
    """Another writer claimed the repository."""
    FAILED = "failed"
    """A fault of moltinit's own: save what there is, and stop loudly."""


NEXT: dict[Phase, dict[Outcome, Phase]] = {
    Phase.BOOT: {
        Outcome.DONE: Phase.CLAIM,
        Outcome.STOPPED: Phase.EXIT,
        Outcome.FAILED: Phase.EXIT,
    },
    Phase.CLAIM: {
        Outcome.DONE: Phase.RESTORE,
        Outcome.STOPPED: Phase.EXIT,
        Outcome.FAILED: Phase.EXIT,
    },
    Phase.RESTORE: {
        Outcome.DONE: Phase.CONFIGURE,
        Outcome.STOPPED: Phase.SEAL,
        Outcome.FENCED: Phase.EXIT,
        Outcome.FAILED: Phase.EXIT,
    },
    Phase.CONFIGURE: {
        Outcome.DONE: Phase.LAUNCH,
        Outcome.STOPPED: Phase.SEAL,
        Outcome.FENCED: Phase.SEAL,
        Outcome.FAILED: Phase.SEAL,
    },
    Phase.LAUNCH: {
        Outcome.DONE: Phase.SERVE,
        Outcome.STOPPED: Phase.DRAIN,
        Outcome.HANDED_OVER: Phase.DRAIN,
        Outcome.FENCED: Phase.DRAIN,
        Outcome.FAILED: Phase.DRAIN,
    },
    Phase.SERVE: {
        Outcome.STOPPED: Phase.DRAIN,
        Outcome.HANDED_OVER: Phase.DRAIN,
        Outcome.FENCED: Phase.DRAIN,
        Outcome.FAILED: Phase.DRAIN,
    },
    Phase.DRAIN: {Outcome.DONE: Phase.SEAL, Outcome.FENCED: Phase.SEAL, Outcome.FAILED: Phase.SEAL},
    Phase.SEAL: {Outcome.DONE: Phase.EXIT, Outcome.FENCED: Phase.EXIT, Outcome.FAILED: Phase.EXIT},
}
"""What follows a phase that ended so."""

INTERRUPTIBLE = frozenset({Phase.BOOT, Phase.CLAIM, Phase.RESTORE, Phase.CONFIGURE, Phase.LAUNCH, Phase.SERVE})
"""Phases that a stop, a fence or a fault cuts short; the rest run to their own deadline."""


class Timeline:
    """Which phase this boot is in, and how many seconds each one took."""

    def __init__(self, clock: Clock, started: float) -> None:
        self._clock = clock
        self._entered = started
        self._spent: dict[str, float] = {}
        self.phase = Phase.BOOT

    def enter(self, phase: Phase) -> float:
        """Go on to `phase`; returns the seconds spent in the one before."""
        now = self._clock.monotonic()
        spent = now - self._entered
        self._spent[self.phase.value] = spent
        self.phase, self._entered = phase, now
        return spent

    @property
    def timings(self) -> dict[str, float]:
        """Seconds by phase, the running one included."""
        return {
            **{name: round(spent, 3) for name, spent in self._spent.items()},
            self.phase.value: round(self._clock.monotonic() - self._entered, 3),
        }
