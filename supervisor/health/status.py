"""The `/status` document: the whole picture as JSON. Its field names are stable: operators rely on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from supervisor.health.problems import Problem


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """The agent's process. `last_exit`: exit code, negative for a signal; `state`: of its supervision."""

    name: str
    version: str | None = None
    pid: int | None = None
    uid: int | None = None
    restarts: int = 0
    last_exit: int | None = None
    state: str = "stopped"


@dataclass(frozen=True, slots=True)
class LastSnapshot:
    """The newest committed snapshot; times in seconds since 1970. `consistent`: the agent was held still."""

    sequence: int
    taken_at: float
    committed_at: float
    files: int
    bytes: int
    consistent: bool


@dataclass(frozen=True, slots=True)
class SnapshotStatus:
    """`count` is of retained snapshots; `pending`: a change is known that no snapshot holds yet."""

    last: LastSnapshot | None = None
    count: int = 0
    pending: bool = False


@dataclass(frozen=True, slots=True)
class BucketStatus:
    """The bucket as this writer sees it; `url` has no credentials; `reachable` is None until it is known."""

    url: str
    epoch: int | None = None
    writer: str | None = None
    reachable: bool | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of isolation. Every measure that is off says why."""

    measure: str
    state: Literal["on", "off"]
    reason: str = ""


MEASURES = (
    "own-user",
    "no-capabilities",
    "no-new-privileges",
    "landlock",
    "resource-limits",
    "clean-environment",
    "supervisor-not-dumpable",
    "bucket-keys-hidden",
    "model-keys-brokered",
    "browser-brokered",
    "operator-paths-closed",
    "egress-filtered",
)
"""What stands between the agent and what must not reach it; each is on `/status`, whatever its state."""

NOT_BUILT = "nothing is known of it: the agent was not launched yet, or this version does not build it"


def isolation(measures: Sequence[Measure]) -> list[dict[str, str]]:
    """One entry per known measure, in a fixed order: one that nobody answers for is off, and says so."""
    known = {measure.measure: measure for measure in measures}
    names = [*MEASURES, *(name for name in known if name not in MEASURES)]
    return [asdict(known.get(name, Measure(name, "off", NOT_BUILT))) for name in names]


def status_document(
    *,
    phase: str,
    ready: bool,
    problems: Sequence[Problem],
    agent: AgentStatus,
    snapshots: SnapshotStatus,
    bucket: BucketStatus,
    timings: Mapping[str, float],
    measures: Sequence[Measure] = (),
    broker: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put the document together.

    Args:
        phase: the state of the boot that holds now.
        timings: seconds spent in each phase of this boot, the running one included.
        measures: the measures of isolation that somebody answers for.
        broker: providers, budgets and usage (docs/broker.md).
    """
    return {
        "phase": phase,
        "ready": ready,
        "problems": [problem.as_dict() for problem in problems],
        "agent": asdict(agent),
        "snapshots": asdict(snapshots),
        "bucket": asdict(bucket),
        "timings": {name: round(seconds, 3) for name, seconds in timings.items()},
        "isolation": isolation(measures),
        "broker": dict(broker or {}),
    }
