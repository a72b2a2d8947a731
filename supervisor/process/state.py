"""What can be said of the agent at one moment."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum


class AgentState(StrEnum):
    """Where the agent is; `healthy` is the only state in which it is ready.

    stopped -> starting -> healthy -> unhealthy -> backing-off -> starting ...
                  any of them -> stopping -> stopped | held | starting
                  a failed life -> repairing -> starting; its last healthy config -> starting; crash-loop
                  until an operator steps in
    """

    STOPPED = "stopped"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    STOPPING = "stopping"
    BACKING_OFF = "backing-off"
    REPAIRING = "repairing"
    CRASH_LOOP = "crash-loop"
    HELD = "held"


@dataclass(frozen=True, slots=True)
class LastExit:
    """How the last life ended.

    `code` is None where the program never ran and negative for a signal, whose name is in `signal`; `at` is
    wall time; `asked` tells an end that the supervisor brought about for somebody (stop, restart, hold) from
    all others.
    """

    code: int | None
    at: float
    reason: str
    asked: bool = False

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended it, as in `SIGKILL`."""
        if self.code is None or self.code >= 0:
            return None
        try:
            return signal.Signals(-self.code).name
        except ValueError:  # the real-time signals between the named ones
            return f"signal {-self.code}"

    def as_dict(self) -> dict[str, object]:
        """For `/status`."""
        return {
            "code": self.code,
            "signal": self.signal,
            "at": self.at,
            "reason": self.reason,
            "asked": self.asked,
        }


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """A consistent picture. `started_at` is wall time, None while no program runs; `detail` says why, in one
    line."""

    state: AgentState = AgentState.STOPPED
    detail: str = ""
    pid: int | None = None
    restarts: int = 0
    last_exit: LastExit | None = None
    started_at: float | None = None
    rolled_back: str = ""
    """Where the config is kept in whose place the last healthy one was put; empty where none was."""

    @property
    def ready(self) -> bool:
        """Does the agent take traffic?"""
        return self.state is AgentState.HEALTHY
