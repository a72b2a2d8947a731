"""A daemon in whatever state a test wants to see on the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from supervisor.errors import UsageError
from supervisor.health.cost import estimate
from supervisor.health.status import isolation
from supervisor.http.admin.page import AdminPage
from supervisor.http.auth import Gatekeeper
from supervisor.http.operations import Document
from tests.support.clock import FakeClock
from tests.unit.http.support import Door, FakeOperations, front_door

NOW = 1_800_000_000.0
GIB = 1 << 30


def record(sequence: int, *, at: float | None = None, **changes: Any) -> Document:
    """A snapshot as `Operations.snapshots` lists it."""
    moment = NOW - 60.0 * sequence if at is None else at
    return {
        "sequence": sequence,
        "epoch": 3,
        "manifest": f"manifests/{sequence}-3-abc",
        "base": None,
        "taken_at": moment - 1,
        "committed_at": moment,
        "files": 412,
        "bytes": 48_000_000,
        "reason": "change",
        "consistent": False,
        "torn": 0,
        "promoted": True,
        "damaged": False,
        "pin": "",
        "note": "",
        "agent": "openclaw",
        "agent_version": "2026.9.6",
        "home": "abc",
        **changes,
    }


class FakeDaemon(FakeOperations):
    """Answers as `Operations` does, from its attributes; writes down what it is asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None
        self.records = [record(n, at=NOW - 12 - 700 * (42 - n)) for n in range(42, 0, -1)]
        self.rescued: list[Document] = []
        self.differences: list[Document] = []
        self.device_list: Document | Exception = {"pending": [], "paired": []}
        self.lines: list[Document] = []
        self.in_maintenance: Document = {"on": False, "reason": "", "since": None}
        self.audit_entries: list[Document] = []
        self.settings: list[Document] = [{"name": "MOLTINIT_AGENT", "value": "openclaw", "origin": "default"}]
        self.points: list[Document] = []
        self.document: Document = {
            "phase": "serve",
            "ready": True,
            "problems": [],
            "agent": {
                "name": "openclaw",
                "version": "2026.9.6",
                "pid": 4711,
                "uid": 1000,
                "restarts": 0,
                "last_exit": None,
                "state": "healthy",
            },
            "snapshots": {
                "last": {
                    "sequence": 42,
                    "taken_at": NOW - 13,
                    "committed_at": NOW - 12,
                    "files": 412,
                    "bytes": 48_000_000,
                    "consistent": True,
                },
                "count": 42,
                "pending": False,
            },
            "bucket": {
                "url": "s3://moltbot-data",
                "epoch": 3,
                "writer": "boot-3",
                "reachable": True,
                "last_error": None,
            },
            "timings": {
                "boot": 0.41,
                "claim": 0.22,
                "restore": 1.1,
                "configure": 0.05,
                "launch": 4.2,
                "serve": 8000.0,
            },
            "isolation": isolation([]),
        }

    def problem(self, code: str, message: str = "something is wrong", hint: str = "do this") -> None:
        """Another problem is open."""
        self.document["problems"].append({"code": code, "message": message, "hint": hint, "since": NOW - 300})

    def status(self) -> Document:
        return self.document

    def resources(self) -> Document:
        return {"points": self.points}

    def cost(self) -> Document:
        return asdict(estimate(seconds=8000, class_a=40, class_b=4100, stored_bytes=48_000_000))

    def agent_logs(self, after: int, limit: int) -> Sequence[Document]:
        return [line for line in self.lines if line["number"] > after][:limit]

    async def follow_logs(self, after: int) -> AsyncGenerator[Document, None]:
        for line in self.agent_logs(after, len(self.lines)):
            yield line
        await asyncio.Event().wait()

    async def snapshots(self) -> list[Document]:
        return self.records

    async def rescues(self) -> list[Document]:
        return self.rescued

    async def diff(self, before: int, after: int | None) -> list[Document]:
        return self.differences

    def maintenance(self) -> Document:
        return self.in_maintenance

    def audit(self, limit: int) -> list[Document]:
        return self.audit_entries[:limit]

    def config(self) -> list[Document]:
        return self.settings

    def problems(self) -> list[Document]:
        return list(self.document["problems"])

    async def devices(self) -> Document:
        if isinstance(self.device_list, Exception):
            raise self.device_list
        return self.device_list

    def _done(self, *what: Any) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure

    async def take_snapshot(self, reason: str, *, note: str = "") -> Document:
        self._done("snapshot", reason, note)
        return record(43)

    async def restore(self, sequence: int | str, *, path: str = "") -> Document:
        self._done("restore", sequence, path)
        return record(44)

    async def undo(self) -> Document:
        self._done("undo")
        return record(45)

    async def annotate(self, sequence: int, *, pin: str | None = None, note: str | None = None) -> Document:
        self._done("annotate", sequence, pin, note)
        return record(sequence)

    async def restart_agent(self) -> Document:
        self._done("restart")
        return {}

    async def stop_agent(self) -> Document:
        self._done("stop")
        return {}

    async def start_agent(self) -> Document:
        self._done("start")
        return {}

    async def leave_safe_mode(self) -> Document:
        self._done("leave-safe-mode")
        return {}

    async def set_maintenance(self, on: bool, reason: str = "") -> Document:
        self._done("maintenance", on, reason)
        return self.in_maintenance

    async def approve_device(self, request_id: str) -> Document:
        self._done("approve", request_id)
        return {}

    async def approve_all_devices(self) -> Document:
        self._done("approve-all")
        return {"approved": ["a"], "failed": [], "message": ""}

    async def reject_device(self, request_id: str) -> Document:
        self._done("reject", request_id)
        return {}

    async def remove_device(self, device_id: str) -> Document:
        self._done("remove", device_id)
        return {}


def no_devices() -> UsageError:
    """What an agent without devices answers."""
    return UsageError("The agent echo has no devices.")


@asynccontextmanager
async def admin_door(
    daemon: FakeDaemon, *, keeper: Gatekeeper | None = None, auth: str = "none"
) -> AsyncIterator[Door]:
    """A front door with the admin page, in front of a fake daemon."""
    clock = FakeClock(NOW)
    async with front_door(
        keeper=keeper,
        operations=daemon,
        extend=lambda endpoints, unhurried: AdminPage(daemon, unhurried, clock, auth=auth).add_to(endpoints),
    ) as door:
        yield door
