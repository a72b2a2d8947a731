"""What the front door may ask of the daemon. The life cycle implements it; nothing in `http` knows how."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Document = dict[str, Any]
"""A JSON object."""


@dataclass(frozen=True, slots=True)
class Download:
    """One file of a snapshot, or a tree as a tar archive.

    Args:
        name: for the file on the visitor's disk; it may hold any character but `/`.
        chunks: verified content in order, a few MiB in memory at a time. Damage raises `RepositoryError` midway: what
            was sent until then is true, and the rest does not come. Close it (`aclose`) where it is not read to its
            end.
        size: bytes; None where they are not known beforehand (a tar archive).
        modified: seconds since 1970.
    """

    name: str
    chunks: AsyncGenerator[bytes, None]
    size: int | None
    modified: float


class Operations(Protocol):
    """The daemon, as seen from the front door. Methods that are not `async` answer from memory, at once.

    The `async` ones raise `MoltinitError`; they are never cancelled because a client went away.
    """

    def phase(self) -> str:
        """The state of this boot."""
        ...

    def liveness(self) -> Document:
        """Does the daemon itself work? Depends on nothing outside it; no secrets."""
        ...

    def readiness(self) -> tuple[bool, Document]:
        """Can the agent be used? The document lists what fails; no secrets."""
        ...

    def startup(self) -> tuple[bool, Document]:
        """Has the agent started once in this boot? No secrets."""
        ...

    def status(self) -> Document:
        """The document of `supervisor.health.status`."""
        ...

    def metrics(self) -> bytes:
        """Prometheus text."""
        ...

    def resources(self) -> Document:
        """Memory and disk over this boot: `points`, each `{"at", "resources": {"memory", "disk"}}` with `used` and
        `total` in bytes, or None for what the machine does not tell; the last one is of now."""
        ...

    def cost(self) -> Document:
        """What a month like this boot costs in the bucket (`supervisor.health.cost.Estimate`)."""
        ...

    def gateway(self) -> tuple[str, int] | None:
        """Host and port of the agent while it is healthy, else None."""
        ...

    def agent_logs(self, after: int, limit: int) -> Sequence[Document]:
        """At most `limit` of the agent's log lines with a `number` above `after`, in order, masked."""
        ...

    async def activity(self) -> Document:
        """May this VM sleep, and when is it to be woken? See `supervisor.http.api.activity`."""
        ...

    async def snapshots(self) -> list[Document]:
        """The retained snapshots, newest first."""
        ...

    async def take_snapshot(self, reason: str, *, note: str = "") -> Document:
        """Take a snapshot; returns when it is committed."""
        ...

    async def restore(self, wanted: int | str, *, path: str = "") -> Document:
        """Restore a retained snapshot (its number) or a rescued state (its key), whole or only what lies at and below
        `path`; the state before is kept. Raises `UsageError` for what is not there."""
        ...

    async def undo(self) -> Document:
        """Take back the last restore. Raises `UsageError` where there is none."""
        ...

    async def annotate(self, sequence: int, *, pin: str | None = None, note: str | None = None) -> Document:
        """Change a snapshot's pin (empty: none) or note. Raises `UsageError`."""
        ...

    async def forget(self, sequence: int) -> Document:
        """Drop a snapshot from the list. Raises `UsageError`."""
        ...

    async def rescues(self) -> list[Document]:
        """What fenced writers could not commit, newest first."""
        ...

    async def diff(self, before: int, after: int | None) -> list[Document]:
        """What differs between two snapshots; `after` is the newest one where it is None. Raises `UsageError`."""
        ...

    async def collect(self, *, rehearse: bool) -> Document:
        """Delete from the bucket what nothing refers to; with `rehearse`, only say what."""
        ...

    def problems(self) -> list[Document]:
        """What is wrong right now, the oldest first: `{"code", "message", "hint", "since"}`."""
        ...

    def config(self) -> list[Document]:
        """The effective settings: `{"name", "value", "origin"}`; the values of secrets are masked."""
        ...

    def audit(self, limit: int) -> list[Document]:
        """The newest `limit` entries of the audit log, newest first; see `supervisor.audit`."""
        ...

    def follow_logs(self, after: int) -> AsyncGenerator[Document, None]:
        """The agent's log lines with a `number` above `after`, then every new one, without end. A reader that is
        slower than the agent misses lines: it sees a gap in the numbers."""
        ...

    # -- the agent

    async def stop_agent(self) -> Document:
        """Stop the agent and leave it stopped until it is started again (a restore leaves it stopped, too); returns
        when it is down: `{"state", "pid", "detail"}`. The agent's state is saved as before."""
        ...

    async def start_agent(self) -> Document:
        """Start a stopped agent; returns when it is healthy: `{"state", "pid", "detail"}`. Starting one that runs
        changes nothing. Raises `AgentError` where it did not become healthy."""
        ...

    async def restart_agent(self) -> Document:
        """Stop the agent (if it runs) and start it again; returns when the new one is healthy: `{"state", "pid",
        "detail", "previous_pid", "seconds"}`. Raises `AgentError` where it did not become healthy."""
        ...

    async def leave_safe_mode(self) -> Document:
        """After a crash loop: forget the failures and try again, as `start_agent`. Raises `UsageError` where the
        agent is not in a crash loop."""
        ...

    def maintenance(self) -> Document:
        """`{"on", "reason", "since"}`; `since` is in seconds since 1970, None while it is off."""
        ...

    async def set_maintenance(self, on: bool, reason: str = "") -> Document:
        """Pause automatic actions, or let them go on: restarts of an agent that ended or does not answer, deleting
        old snapshots, garbage collection. Saving goes on. It is over with this daemon. Returns as `maintenance`."""
        ...

    # -- its devices

    async def devices(self) -> Document:
        """`{"pending": [...], "paired": [...]}` in the agent's own words; no tokens. Raises `UsageError` where the
        agent has no devices, or no device of that name (as all of these), and `AgentError` where it does not answer."""
        ...

    async def approve_device(self, request_id: str) -> Document:
        """Let a pending device in: `{"request_id", "device_id"}`."""
        ...

    async def approve_all_devices(self) -> Document:
        """Let all pending devices in: `{"approved": [request id], "failed": [{"requestId", "success", "error"}],
        "message"}`."""
        ...

    async def reject_device(self, request_id: str) -> Document:
        """Turn a pending device away: `{"request_id", "device_id"}`."""
        ...

    async def remove_device(self, device_id: str) -> Document:
        """Forget a paired device, whose connections end: `{"device_id"}`."""
        ...

    # -- the bucket

    async def storage(self) -> Document:
        """Is the state kept, and since when: moltworker's `configured`, `missing` (names of settings; only where some
        are), `lastSync` (ISO 8601, None: never), `message`; and `url`, `reachable`, `lastError`, `pending`,
        `snapshots` (how many), `sequence`, `files`, `bytes` (of the newest)."""
        ...

    async def open_file(self, sequence: int, path: str) -> Download:
        """One file of a retained snapshot. Raises `UsageError` for what is not there, or is no file."""
        ...

    async def open_tar(self, sequence: int, path: str = "") -> Download:
        """What lies at and below `path` of a retained snapshot, as a tar archive (PAX). Raises `UsageError`."""
        ...
