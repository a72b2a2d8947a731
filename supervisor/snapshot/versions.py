"""Which agent wrote a state, and which may carry on with it: newer programs migrate, older ones break what they do not
know."""

from __future__ import annotations

import re

from supervisor.errors import AgentError
from supervisor.snapshot.claim import Identity
from supervisor.snapshot.format import Head, SnapshotRecord


class AgentTooOld(AgentError):
    """The state was written by a newer version of the agent."""

    code = "agent-too-old"


def is_upgrade(record: SnapshotRecord, identity: Identity, head: Head) -> bool:
    """Is the agent newer than the one that wrote the snapshot? Raises `AgentTooOld` where it is older. Another agent,
    or a version that is not made of numbers, tells nothing."""
    before, now = _numbers(record.agent_version), _numbers(identity.agent_version)
    if record.agent != identity.agent or before is None or now is None or before == now:
        return False
    if now > before:
        return True
    fit = [r for r in head.snapshots if r.promoted and not r.damaged and (_numbers(r.agent_version) or now) <= now]
    raise AgentTooOld(
        f"snapshot {record.sequence} was written by {record.agent} {record.agent_version}; this machine has "
        f"{identity.agent_version}, which may not read it",
        hint=f"install {record.agent} {record.agent_version} or newer"
        + (f", or go back with its state: stop this daemon, `moltinit restore {fit[-1].sequence}`" if fit else ""),
    )


def _numbers(version: str) -> tuple[int, ...] | None:
    """`2026.9.6-1` as (2026, 9, 6, 1)."""
    match = re.fullmatch(r"v?(\d+(?:[.-]\d+)*)", version)
    return tuple(int(part) for part in re.split(r"[.-]", match[1])) if match else None
