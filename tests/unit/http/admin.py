"""A daemon with devices, logs and files, as the tests of the admin API want it to be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from supervisor.errors import AgentError, MoltinitError, NotFound, RepositoryError
from supervisor.http.operations import Download
from tests.unit.http.support import FakeOperations


@dataclass
class AdminOperations(FakeOperations):
    """What of the daemon the admin API asks for."""

    pending: list[str] = field(default_factory=lambda: ["r1", "r2"])
    paired: list[str] = field(default_factory=lambda: ["d1"])
    stubborn: str = ""
    failure: MoltinitError | None = None
    state: str = "healthy"
    configured: bool = True
    in_maintenance: tuple[bool, str] = (False, "")
    content: bytes = b"hello"
    damaged_after: int | None = None
    opened: list[tuple[int, str]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    followers: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def devices(self) -> dict[str, Any]:
        self._fail()
        return {
            "pending": [{"requestId": name} for name in self.pending],
            "paired": [{"deviceId": name} for name in self.paired],
        }

    async def approve_device(self, request_id: str) -> dict[str, Any]:
        self._fail()
        if request_id not in self.pending:
            raise NotFound(f"the gateway knows no request {request_id!r}", hint="list them again")
        if request_id == self.stubborn:
            raise AgentError("the gateway did not answer")
        self.pending.remove(request_id)
        return {"request_id": request_id, "device_id": "d2"}

    async def approve_all_devices(self) -> dict[str, Any]:
        approved, self.pending = self.pending, []
        return {"approved": approved, "failed": [], "message": f"Approved {len(approved)} of {len(approved)} device(s)"}

    async def reject_device(self, request_id: str) -> dict[str, Any]:
        return await self.approve_device(request_id)

    async def remove_device(self, device_id: str) -> dict[str, Any]:
        if device_id not in self.paired:
            raise NotFound(f"the gateway knows no device {device_id!r}")
        self.paired.remove(device_id)
        return {"device_id": device_id}

    async def storage(self) -> dict[str, Any]:
        document: dict[str, Any] = {"configured": self.configured, "lastSync": "2026-01-01T00:00:00+00:00"}
        return {**document, "message": "kept" if self.configured else "lost with the machine"}

    async def take_snapshot(self, reason: str, *, note: str = "") -> dict[str, Any]:
        self._fail()
        return await super().take_snapshot(reason, note=note)

    async def stop_agent(self) -> dict[str, Any]:
        self.state = "held"
        return {"state": "held", "pid": None, "detail": "stopped by an operator"}

    async def start_agent(self) -> dict[str, Any]:
        self._fail()
        return {"state": self.state, "pid": 43, "detail": ""}

    async def restart_agent(self) -> dict[str, Any]:
        self._fail()
        return {"state": self.state, "pid": 43, "detail": "", "previous_pid": None, "seconds": 80.0}

    def maintenance(self) -> dict[str, Any]:
        on, reason = self.in_maintenance
        return {"on": on, "reason": reason, "since": 1.0 if on else None}

    async def set_maintenance(self, on: bool, reason: str = "") -> dict[str, Any]:
        self.in_maintenance = (on, reason)
        return self.maintenance()

    def audit(self, limit: int) -> list[dict[str, Any]]:
        return self.entries[:limit]

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        step = 1 if len(self.content) < 100 else 65536
        for at in range(0, len(self.content), step):
            if at == self.damaged_after:
                raise RepositoryError("content is damaged")
            await asyncio.sleep(0)  # as a bucket would
            yield self.content[at : at + step]

    async def open_file(self, sequence: int, path: str) -> Download:
        self.opened.append((sequence, path))
        if "missing" in path:
            raise NotFound(f"snapshot {sequence} has no {path!r}")
        return Download(path.rpartition("/")[2], self._chunks(), len(self.content), 1.5)

    async def open_tar(self, sequence: int, path: str = "") -> Download:
        self.opened.append((sequence, path))
        return Download(f"snapshot-{sequence}.tar", self._chunks(), None, 1.5)

    def say(self, *texts: str) -> None:
        """The agent prints lines."""
        for text in texts:
            self.lines.append({"number": len(self.lines) + 1, "at": 0.0, "text": text})
        self.more.set()
        self.more = asyncio.Event()

    async def follow_logs(self, after: int) -> AsyncGenerator[dict[str, Any], None]:
        self.followers += 1
        try:
            while True:
                for line in [line for line in self.lines if line["number"] > after]:
                    after = line["number"]
                    yield line
                await self.more.wait()
        finally:
            self.followers -= 1
