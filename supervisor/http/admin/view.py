"""What each part of the page says: plain values for the templates, from what the daemon answered. No HTML here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.http.admin.machine import MeterView, cost_words, meters
from supervisor.http.admin.sources import Sources
from supervisor.http.admin.timeline import TimelineView, timeline
from supervisor.http.admin.verdict import AGENT_WORDS, GRAVE, PHASE_WORDS, Mood, Verdict, verdict
from supervisor.http.admin.words import sentence, short, span

Document = dict[str, Any]

NEWEST = 6
"""Snapshots on the first page."""
AUDIT_ROWS = 12


@dataclass(frozen=True, slots=True)
class Action:
    """A button (`do`: the name of an action) or a link (`href`)."""

    label: str
    do: str = ""
    href: str = ""


REMEDIES: dict[str, tuple[Action, ...]] = {
    "agent-crash-loop": (
        Action("Try again", do="leave-safe-mode"),
        Action("Read its log", href="#logs"),
        Action("Restore a snapshot", href="#snapshots"),
    ),
    "agent-unhealthy": (Action("Read its log", href="#logs"), Action("Restart it", do="restart")),
    "agent-too-old": (Action("Restore a snapshot", href="#snapshots"),),
    "bucket": (Action("Try to save now", do="snapshot"), Action("See the settings", href="#settings")),
    "snapshot-failed": (Action("Try to save now", do="snapshot"),),
    "snapshot-shrunk": (Action("Compare snapshots", href="#snapshots"),),
    "snapshot-damaged": (Action("See the snapshots", href="#snapshots"),),
    "database-damaged": (Action("Restore a snapshot", href="#snapshots"),),
    "local-state-rescued": (Action("See rescued states", href="/_admin/snapshots#rescued"),),
    "maintenance": (Action("End maintenance", do="maintenance-off"),),
    "event-loop-slow": (Action("Memory and disk", href="#machine"),),
}
"""What can be done about a problem from here, by its code."""


@dataclass(frozen=True, slots=True)
class ProblemView:
    code: str
    message: str
    hint: str
    since: float
    mood: Mood
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class PhaseView:
    name: str
    words: str
    began: float
    took: str
    running: bool


@dataclass(frozen=True, slots=True)
class DeviceView:
    """`handle` is what an action on it takes; `mark` tells it from all others in an `id`."""

    handle: str
    mark: str
    name: str
    identity: str
    details: str
    at: float | None


@dataclass(frozen=True, slots=True)
class AuditView:
    """Who did what, and what became of it."""

    at: float
    who: str
    what: str
    outcome: str
    mood: Mood


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole first page. `at_work`: the daemon takes orders (it does neither while it starts nor while it stops)."""

    now: float
    verdict: Verdict
    at_work: bool
    agent: Document
    agent_words: str
    bucket: Document
    problems: tuple[ProblemView, ...]
    phases: tuple[PhaseView, ...]
    timeline: TimelineView
    snapshots_error: str
    pending: tuple[DeviceView, ...]
    paired: tuple[DeviceView, ...]
    devices_error: str
    logs: list[Document]
    maintenance: Document
    meters: tuple[MeterView, ...]
    cost: Document
    cost_words: tuple[tuple[str, str, str], ...]
    isolation: list[Document]
    isolation_on: int
    audit: tuple[AuditView, ...]
    config: list[Document]


def overview(sources: Sources) -> Overview:
    """Everything, from one set of answers."""
    status = sources.status
    devices = sources.devices.value
    return Overview(
        now=sources.now,
        verdict=verdict(status, maintenance=bool(sources.maintenance.get("on"))),
        at_work=status["phase"] in ("launch", "serve"),
        agent=status["agent"],
        agent_words=AGENT_WORDS.get(status["agent"]["state"], status["agent"]["state"]),
        bucket=status["bucket"],
        problems=tuple(problem_view(problem) for problem in status["problems"]),
        phases=phase_views(status["timings"], status["phase"], sources.now),
        timeline=timeline(sources.snapshots.value, most=NEWEST),
        snapshots_error=sources.snapshots.error,
        # In the order in which they came: a newcomer moves no button under somebody's finger.
        pending=tuple(sorted((device_view(d, "requestId") for d in devices.get("pending") or ()), key=_came)),
        paired=tuple(device_view(device, "deviceId") for device in devices.get("paired") or ()),
        devices_error=sources.devices.error,
        logs=sources.logs,
        maintenance=sources.maintenance,
        meters=meters(sources.resources["points"]),
        cost=sources.cost,
        cost_words=cost_words(sources.cost),
        isolation=status["isolation"],
        isolation_on=sum(entry["state"] == "on" for entry in status["isolation"]),
        audit=tuple(audit_view(entry) for entry in sources.audit[:AUDIT_ROWS]),
        config=sources.config,
    )


def problem_view(problem: Document) -> ProblemView:
    code = problem["code"]
    return ProblemView(
        code=code,
        message=sentence(problem["message"]),
        hint=sentence(problem["hint"]),
        since=problem["since"],
        mood=Mood.BAD if code in GRAVE else Mood.WARN,
        actions=REMEDIES.get(code, ()),
    )


def phase_views(timings: Mapping[str, float], phase: str, now: float) -> tuple[PhaseView, ...]:
    """The phases of this boot in order, with when each began; the running one is the last."""
    began = now - sum(timings.values())
    views = []
    for name, seconds in timings.items():
        views.append(PhaseView(name, PHASE_WORDS.get(name, name), began, span(seconds), running=name == phase))
        began += seconds
    return tuple(views)


def device_view(device: Document, handle: str) -> DeviceView:
    """A device in OpenClaw's words; every field may be missing, and every text comes from the device."""
    name = str(device.get(handle) or "")
    identity = _text(device.get("deviceId"))
    client = _text(device.get("clientId"))
    roles = device.get("roles")
    details = [
        _text(device.get("platform")),
        " ".join(filter(None, (client, _text(device.get("clientMode"))))),
        ", ".join(map(_text, roles[:4])) if isinstance(roles, list) else _text(device.get("role")),
        _text(device.get("remoteIp")),
    ]
    at = next((device[name] for name in ("ts", "approvedAtMs", "createdAtMs") if _is_number(device.get(name))), None)
    return DeviceView(
        handle=name,
        mark=hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:12],
        name=_text(device.get("displayName")) or client or "unnamed device",
        identity=short(identity, 16),
        details=" · ".join(filter(None, details)),
        at=at / 1000 if at is not None else None,
    )


def audit_view(entry: Document) -> AuditView:
    """An entry of the audit log, in one line. What came through this page is named by its action alone."""
    parameters = dict(entry["parameters"])
    action = parameters.pop("action", None)
    what = str(action) if action else f"{entry['method']} {entry['route']}"
    details = ", ".join(f"{name} {value}" for name, value in parameters.items() if value not in ("", None))
    failed = bool(entry["code"]) or entry["outcome"] != "done"
    return AuditView(
        at=entry["at"],
        who=short(str(entry["who"]), 60),
        what=short(f"{what} ({details})" if details else what, 100),
        outcome=(entry["outcome"] if entry["outcome"] != "done" else "failed") if failed else "done",
        mood=Mood.WARN if failed else Mood.GOOD,
    )


def _came(device: DeviceView) -> tuple[float, str]:
    return device.at or 0.0, device.handle


def _text(value: object) -> str:
    return short(value, 60) if isinstance(value, str) else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
