"""How the agent does, from each change of its state: problems and metrics."""

from __future__ import annotations

from typing import Protocol

from supervisor.health.metrics import Metrics
from supervisor.health.problems import Problems


class Seen(Protocol):
    """What of the agent's state is looked at (`supervisor.process.state.AgentStatus` fits)."""

    @property
    def state(self) -> str: ...

    @property
    def detail(self) -> str: ...

    @property
    def restarts(self) -> int: ...

    @property
    def rolled_back(self) -> str: ...


SICK = {
    "unhealthy": ("agent-unhealthy", "the agent does not answer its probe", "it is restarted, unless in maintenance"),
    "backing-off": (
        "agent-unhealthy",
        "the agent ended by itself",
        "it is restarted with backoff; its log says why",
    ),
    "repairing": ("agent-unhealthy", "the agent's own repair is running", "wait for it to end"),
    "crash-loop": (
        "agent-crash-loop",
        "the agent was given up",
        "its own repair and its last healthy config did not help: read its log, restore a snapshot from before "
        "(`moltinit snapshots`, `moltinit restore`), or start it again: POST /api/admin/gateway/restart",
    ),
}
"""By state: code, sentence, hint."""


class AgentHealth:
    """Told of every change of the agent's state."""

    def __init__(self, problems: Problems, metrics: Metrics) -> None:
        self._problems = problems
        self._metrics = metrics
        self._restarts = 0

    def observe(self, seen: Seen) -> None:
        """The agent's state has changed."""
        self._metrics.agent_up(seen.state == "healthy")
        for _ in range(seen.restarts - self._restarts):
            self._metrics.agent_restarted()
        self._restarts = seen.restarts
        if seen.rolled_back:
            self._problems.report(
                "config-rolled-back",
                f"the agent did not start on its config: the last healthy one is in place, the other is kept as "
                f"{seen.rolled_back}",
                "correct that one and put it back; this notice ends when a new config has proven itself",
            )
        else:
            self._problems.clear("config-rolled-back")
        if seen.state in SICK:
            code, message, hint = SICK[seen.state]
            self._problems.report(code, f"{message}: {seen.detail}" if seen.detail else message, hint)
        elif seen.state in ("healthy", "stopped", "held"):
            self._problems.clear("agent-unhealthy")
            self._problems.clear("agent-crash-loop")
