"""What the front door may ask, answered by the parts that know (`supervisor.http.operations`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import asdict
from typing import Any

from agent_runtime.contract import AgentRuntime
from supervisor.agent_control import AgentControl
from supervisor.broker.broker import Broker
from supervisor.health.bucket import BucketHealth
from supervisor.health.cost import estimate
from supervisor.health.history import History
from supervisor.health.isolation import Isolation
from supervisor.health.metrics import Metrics
from supervisor.health.problems import Problem, Problems
from supervisor.health.status import (
    AgentStatus,
    BucketStatus,
    LastSnapshot,
    SnapshotStatus,
    status_document,
)
from supervisor.http.operations import Download
from supervisor.lifecycle import Lifecycle
from supervisor.phases import Phase, Timeline
from supervisor.process.keeper import Keeper
from supervisor.process.logs import LogLine, Logs
from supervisor.process.state import AgentState
from supervisor.settings import Settings
from supervisor.snapshot.download import Opened
from supervisor.snapshot.engine import Engine
from supervisor.snapshot.format import SnapshotRecord, to_builtins
from supervisor.snapshot.saver import Saver
from supervisor.storage import storage_document

Document = dict[str, Any]

NOT_READY = {
    Phase.CLAIM: ("not-claimed", "the repository is not claimed yet"),
    Phase.RESTORE: ("not-restored", "the agent's state is being restored"),
    Phase.CONFIGURE: ("not-configured", "the agent is not configured yet"),
    Phase.LAUNCH: ("not-started", "the agent has not finished starting"),
    Phase.DRAIN: ("draining", "the daemon is stopping"),
    Phase.SEAL: ("sealing", "the last snapshot is being taken"),
    Phase.EXIT: ("exiting", "the daemon is exiting"),
}
"""Why a phase is not ready: code and sentence."""


class Control:
    """The daemon as the front door sees it."""

    def __init__(
        self,
        *,
        timeline: Timeline,
        lifecycle: Lifecycle,
        engine: Engine,
        saver: Saver,
        keeper: Keeper,
        runtime: AgentRuntime,
        agent_version: str,
        logs: Logs,
        problems: Problems,
        metrics: Metrics,
        bucket: BucketHealth,
        bucket_url: str,
        agent_uid: Callable[[], int],
        agent: AgentControl,
        settings: Settings,
        audited: Callable[[int], list[Document]],
        isolation: Isolation,
        history: History,
        broker: Broker,
    ) -> None:
        self._timeline = timeline
        self._lifecycle = lifecycle
        self._engine = engine
        self._saver = saver
        self._keeper = keeper
        self._runtime = runtime
        self._agent_version = agent_version
        self._logs = logs
        self._problems = problems
        self._metrics = metrics
        self._bucket = bucket
        self._bucket_url = bucket_url
        self._agent_uid = agent_uid
        self._agent = agent
        self._settings = settings
        self._audited = audited
        self._isolation = isolation
        self._history = history
        self._broker = broker

    def phase(self) -> str:
        return self._timeline.phase.value

    def liveness(self) -> Document:
        return {"ok": True, "phase": self.phase()}

    def readiness(self) -> tuple[bool, Document]:
        failing = self._failing()
        return not failing, {"ready": not failing, "phase": self.phase(), "failing": failing}

    @property
    def _healthy(self) -> bool:
        return self._keeper.status.state is AgentState.HEALTHY

    def _failing(self) -> list[Document]:
        """An agent that serves is ready, whatever else is wrong; one that does not comes with all that is known."""
        if self._timeline.phase is Phase.SERVE and self._healthy:
            return []
        if self._timeline.phase is Phase.SERVE:
            code, message = "agent-down", f"the agent is {self._keeper.status.state.value}"
        else:
            code, message = NOT_READY.get(self._timeline.phase, ("starting", "the daemon is starting"))
        problems = [{"code": problem.code, "message": problem.message} for problem in self._problems.current()]
        return [{"code": code, "message": message}, *problems]

    def startup(self) -> tuple[bool, Document]:
        started = Phase.LAUNCH.value in self._timeline.timings and self._timeline.phase is not Phase.LAUNCH
        return started, {
            "started": started,
            "phase": self.phase(),
            "failing": [] if started else self._failing(),
        }

    def status(self) -> Document:
        head = self._engine.head
        last = next((r for r in reversed(head.snapshots) if r.promoted), None) if head else None
        exit_ = self._keeper.status.last_exit
        problems: Sequence[Problem] = self._problems.current()
        return status_document(
            phase=self.phase(),
            ready=not self._failing(),
            problems=problems,
            agent=AgentStatus(
                name=self._runtime.name,
                version=self._agent_version,
                pid=self._keeper.status.pid,
                uid=self._agent_uid() if self._keeper.status.pid else None,
                restarts=self._keeper.status.restarts,
                last_exit=exit_.code if exit_ else None,
                state=self._keeper.told_state.value,
            ),
            snapshots=SnapshotStatus(
                last=_last(last), count=len(head.snapshots) if head else 0, pending=self._saver.pending
            ),
            bucket=BucketStatus(
                url=self._bucket_url,
                epoch=self._engine.epoch,
                writer=head.writer.boot if head else None,
                reachable=self._bucket.reachable,
                last_error=self._bucket.last_error,
            ),
            timings=self._timeline.timings,
            measures=self._isolation.measures,
            broker=self._broker.report(),
        )

    def metrics(self) -> bytes:
        return self._metrics.render()

    def resources(self) -> Document:
        return {"points": [asdict(point) for point in self._history.with_now()]}

    def cost(self) -> Document:
        requests = self._metrics.requests_by_class()
        head = self._engine.head
        last = next((record for record in reversed(head.snapshots) if record.promoted), None) if head else None
        return asdict(
            estimate(
                seconds=sum(self._timeline.timings.values()),
                class_a=requests["A"],
                class_b=requests["B"],
                stored_bytes=last.bytes if last else 0,
            )
        )

    def gateway(self) -> tuple[str, int] | None:
        serving = self._timeline.phase in (Phase.LAUNCH, Phase.SERVE)
        return self._runtime.address if serving and self._healthy else None

    def agent_logs(self, after: int, limit: int) -> Sequence[Document]:
        return [_line(line) for line in self._logs.tail(after=after)[:limit]]

    async def follow_logs(self, after: int) -> AsyncGenerator[Document, None]:
        async for line in self._logs.follow(after):
            yield _line(line)

    async def activity(self) -> Document:
        activity = await self._runtime.activity() if self.gateway() is not None else None
        return {
            "known": activity is not None,
            "busy": activity is None or activity.busy,
            "doing": list(activity.doing) if activity else [],
            "next_wake": activity.next_wake if activity else None,
            "phase": self.phase(),
            "ready": not self._failing(),
            "snapshot_pending": self._saver.pending,
        }

    async def snapshots(self) -> list[Document]:
        head = self._engine.head
        return [snapshot_document(record) for record in reversed(head.snapshots)] if head else []

    async def take_snapshot(self, reason: str, *, note: str = "") -> Document:
        taken = await self._lifecycle.take_snapshot(reason, note)
        assert taken.record is not None, "a forced snapshot is always committed"
        return {
            **snapshot_document(taken.record),
            "uploaded_bytes": taken.uploaded_bytes,
            "shrunk": taken.shrunk,
        }

    async def restore(self, wanted: int | str, *, path: str = "") -> Document:
        return snapshot_document(await self._lifecycle.restore(wanted, path))

    async def undo(self) -> Document:
        return snapshot_document(await self._lifecycle.undo())

    async def annotate(self, sequence: int, *, pin: str | None = None, note: str | None = None) -> Document:
        return snapshot_document(await self._engine.annotate(sequence, pin=pin, note=note))

    async def forget(self, sequence: int) -> Document:
        await self._engine.forget(sequence)
        return {"forgotten": sequence}

    async def rescues(self) -> list[Document]:
        return [to_builtins(rescued) for rescued in await self._engine.rescues()]

    async def diff(self, before: int, after: int | None) -> list[Document]:
        return [to_builtins(change) for change in await self._engine.compare(before, after)]

    async def collect(self, *, rehearse: bool) -> Document:
        document: Document = to_builtins(await self._engine.collect(rehearse=rehearse))
        return document

    def problems(self) -> list[Document]:
        return self._problems.listing()

    def config(self) -> list[Document]:
        return [{"name": row.name, "value": row.value, "origin": row.origin} for row in self._settings.described]

    def audit(self, limit: int) -> list[Document]:
        return self._audited(limit)

    # -- the agent

    async def stop_agent(self) -> Document:
        return await self._agent.stop()

    async def start_agent(self) -> Document:
        return await self._agent.start()

    async def restart_agent(self) -> Document:
        return await self._agent.restart()

    async def leave_safe_mode(self) -> Document:
        return await self._agent.leave_safe_mode()

    def maintenance(self) -> Document:
        return self._agent.maintenance()

    async def set_maintenance(self, on: bool, reason: str = "") -> Document:
        return self._agent.set_maintenance(on, reason)

    async def devices(self) -> Document:
        return await self._agent.devices()

    async def approve_device(self, request_id: str) -> Document:
        return await self._agent.approve(request_id)

    async def approve_all_devices(self) -> Document:
        return await self._agent.approve_all()

    async def reject_device(self, request_id: str) -> Document:
        return await self._agent.reject(request_id)

    async def remove_device(self, device_id: str) -> Document:
        return await self._agent.remove(device_id)

    # -- the bucket

    async def storage(self) -> Document:
        return storage_document(
            self._settings,
            url=self._bucket_url,
            head=self._engine.head,
            bucket=self._bucket,
            pending=self._saver.pending,
        )

    async def open_file(self, sequence: int, path: str) -> Download:
        return _download(await self._engine.open_file(sequence, path))

    async def open_tar(self, sequence: int, path: str = "") -> Download:
        return _download(await self._engine.open_tar(sequence, path))


def snapshot_document(record: SnapshotRecord) -> Document:
    """A snapshot as `/api/admin/snapshots` and `moltinit snapshots --json` show it."""
    document: Document = to_builtins(record)
    return document


def _line(line: LogLine) -> Document:
    return {"number": line.sequence, "at": line.at, "text": line.text}


def _download(opened: Opened) -> Download:
    return Download(opened.name, opened.chunks, opened.size, opened.modified)


def _last(record: SnapshotRecord | None) -> LastSnapshot | None:
    if record is None:
        return None
    return LastSnapshot(
        sequence=record.sequence,
        taken_at=record.taken_at,
        committed_at=record.committed_at,
        files=record.files,
        bytes=record.bytes,
        consistent=record.consistent,
    )
