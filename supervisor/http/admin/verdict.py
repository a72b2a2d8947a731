"""The one sentence at the top: is it alive, and is everything saved? From `/status` and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Document = dict[str, Any]


class Mood(StrEnum):
    """How it stands; shown by a colour, a shape and a word."""

    GOOD = "good"
    BUSY = "busy"
    WARN = "warn"
    BAD = "bad"


WORDS = {Mood.GOOD: "All is well", Mood.BUSY: "One moment", Mood.WARN: "Look at this", Mood.BAD: "Act now"}

PHASE_WORDS = {
    "boot": "waking up",
    "claim": "taking over the bucket",
    "restore": "bringing back the agent's memory",
    "configure": "applying the settings",
    "launch": "starting the agent",
    "serve": "at work",
    "drain": "stopping the agent",
    "seal": "taking the last snapshot",
    "exit": "leaving",
}

AGENT_WORDS = {
    "stopped": "is stopped",
    "starting": "is starting",
    "healthy": "answers",
    "unhealthy": "does not answer",
    "stopping": "is being stopped",
    "backing-off": "died and is started again soon",
    "repairing": "is being repaired",
    "crash-loop": "keeps dying and was given up",
    "held": "is held still for a restore",
}

PASSING = frozenset({"starting", "stopping", "held", "repairing"})
"""States of the agent that end by themselves, as a rule soon."""

UNSAFE = frozenset({"bucket", "snapshot-failed", "fenced", "internal"})
"""Problems that keep changes from being saved."""

GRAVE = UNSAFE | {"agent-crash-loop", "agent-too-old", "database-damaged"}
"""Problems that do not go away by themselves, or that cost something while they last."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to say first.

    Args:
        headline: a few words, the same until something changes (a screen reader speaks it then).
        data: whether everything is saved, in one sentence.
        saved_at: when the newest snapshot was committed, seconds since 1970.
        safe: nothing that is known of is in danger.
    """

    mood: Mood
    headline: str
    data: str
    saved_at: float | None
    safe: bool

    @property
    def word(self) -> str:
        return WORDS[self.mood]


def verdict(status: Document, *, maintenance: bool = False) -> Verdict:
    """Judge a `/status` document."""
    # Maintenance is listed among the problems so that nobody forgets it; it is somebody's wish all the same.
    codes = {problem["code"] for problem in status["problems"]} - {"maintenance"}
    mood, headline = _headline(status, codes)
    if maintenance and mood in (Mood.GOOD, Mood.BUSY):
        mood, headline = Mood.WARN, f"{headline}; maintenance is on"
    data, safe = _data(status, codes)
    if not safe and mood in (Mood.GOOD, Mood.BUSY):
        mood = Mood.WARN
    last = status["snapshots"]["last"]
    return Verdict(mood, headline, data, last["committed_at"] if last else None, safe)


def _headline(status: Document, codes: set[str]) -> tuple[Mood, str]:
    phase, state = status["phase"], status["agent"]["state"]
    if "fenced" in codes:
        return Mood.BAD, "Another machine has taken over; this one is stopping"
    if phase == "serve" and status["ready"]:
        if not codes:
            return Mood.GOOD, "Alive, saving a change" if status["snapshots"]["pending"] else "Alive and well"
        number = f"{len(codes)} problems" if len(codes) > 1 else "a problem"
        return (Mood.BAD if codes & GRAVE else Mood.WARN), f"Alive, with {number}"
    if phase in ("serve", "launch") and state not in ("starting", "healthy"):
        mood = Mood.BUSY if state in PASSING else Mood.WARN if state == "stopped" else Mood.BAD
        return mood, f"The agent {AGENT_WORDS.get(state, 'is ' + state)}"
    mood = Mood.BAD if codes & GRAVE else Mood.WARN if codes else Mood.BUSY
    words = PHASE_WORDS.get(phase) or str(phase)
    return mood, f"{words[:1].upper()}{words[1:]}"


def _data(status: Document, codes: set[str]) -> tuple[str, bool]:
    last, pending = status["snapshots"]["last"], status["snapshots"]["pending"]
    if last is None:
        if status["bucket"]["reachable"] is False:
            return "The bucket does not answer: nothing is saved, and nothing can be restored, until it does.", False
        if status["phase"] in ("boot", "claim"):
            return "What the bucket holds is not known yet.", True
        return "There is no snapshot yet.", status["phase"] == "restore"
    if codes & UNSAFE:
        return "Changes since the newest snapshot are on this machine only.", False
    if "files-unread" in codes:
        return "Some files cannot be read, and are in no snapshot.", False
    if "snapshot-shrunk" in codes:
        return "The newest snapshot lost most of the files and is kept aside.", False
    if pending:
        return "A change is being saved.", True
    return "Everything is saved; nothing has changed since.", True
