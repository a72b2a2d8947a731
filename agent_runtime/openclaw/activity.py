"""What the gateway is doing and when its next job is due, out of two of its calls.

`gateway.restart.preflight` counts what a restart would cut short: queued and running turns, jobs, commands in the
background. `cron.status` knows when the next job is due; a heartbeat is a job, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent_runtime.contract import Activity
from agent_runtime.openclaw.rpc import Rpc

TOTAL = "totalActive"
MOST_MILLISECONDS = 1e15
"""Beyond the year 30,000: no time, whatever it is."""


async def ask(rpc: Rpc) -> Activity:
    """Raises `RpcError`."""
    return read(await rpc.call("gateway.restart.preflight"), await rpc.call("cron.status"))


def read(preflight: Mapping[str, Any], cron: Mapping[str, Any]) -> Activity:
    """From the two answers. What they do not say counts as busy: a stop is the worse mistake."""
    counts = preflight.get("counts")
    if not isinstance(counts, dict):
        return Activity(busy=True, doing=("the gateway does not say",), next_wake=_next_wake(cron))
    doing = tuple(name for name, count in counts.items() if name != TOTAL and not _none(count))
    busy = preflight.get("safe") is not True or bool(doing) or not _none(counts.get(TOTAL, 0))
    return Activity(busy=busy, doing=doing, next_wake=_next_wake(cron))


def _none(count: object) -> bool:
    return isinstance(count, int) and count <= 0


def _next_wake(cron: Mapping[str, Any]) -> float | None:
    at = cron.get("nextWakeAtMs")
    if cron.get("enabled") is False or isinstance(at, bool) or not isinstance(at, int | float):
        return None
    return at / 1000 if 0 < at < MOST_MILLISECONDS else None
