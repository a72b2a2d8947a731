"""What the front door may ask of the daemon. The life cycle implements it; nothing in `http` knows how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Document = dict[str, Any]
"""A JSON object."""


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

    def gateway(self) -> tuple[str, int] | None:
        """Host and port of the agent while it is healthy, else None."""
        ...

    def agent_logs(self, after: int, limit: int) -> Sequence[Document]:
        """At most `limit` of the agent's log lines with a `number` above `after`, in order, masked."""
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

    async def restart_agent(self) -> Document:
        """Stop the agent and start it again; returns when that is under way or done."""
        ...
