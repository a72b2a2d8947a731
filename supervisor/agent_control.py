"""What an operator may do to the agent: stop, start, restart, out of safe mode, maintenance, its devices.

Every answer says what became of it, and waits for that as long as a proxy in front lets a request live.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from agent_runtime.contract import AgentRuntime, DeviceRegistry, RuntimeFault, UnknownDevice
from supervisor.clock import Clock
from supervisor.errors import AgentError, MoltinitError, NotFound, UsageError
from supervisor.health.maintenance import Maintenance
from supervisor.phases import Phase, Timeline
from supervisor.process.keeper import SETTLED, Keeper
from supervisor.process.race import first
from supervisor.process.state import AgentState, AgentStatus

Document = dict[str, Any]

OUTCOME_SECONDS = 80.0
"""Cloudflare ends a request without an answer after 100 s. An agent that takes longer is said to be starting."""

_Result = TypeVar("_Result")


class AgentControl:
    """See the module."""

    def __init__(
        self, *, keeper: Keeper, runtime: AgentRuntime, timeline: Timeline, maintenance: Maintenance, clock: Clock
    ) -> None:
        self._keeper = keeper
        self._runtime = runtime
        self._timeline = timeline
        self._maintenance = maintenance
        self._clock = clock

    # -- its life

    async def stop(self) -> Document:
        """Stop it and leave it stopped."""
        self._must_be_serving("stop the agent")
        await self._outcome(self._keeper.park("stopped by an operator"))
        return self._seen()

    async def start(self) -> Document:
        """Start it, unless it runs."""
        self._must_be_serving("start the agent")
        status = self._keeper.status
        if status.pid is not None and not self._keeper.parked:
            await self._outcome(self._keeper.wait_for(*SETTLED))
            return self._verdict()
        await self._outcome(self._keeper.restarted("an operator started it"))
        return self._verdict()

    async def restart(self) -> Document:
        """Stop it, if it runs, and start it."""
        self._must_be_serving("restart the agent")
        begun, before = self._clock.monotonic(), self._keeper.status.pid
        await self._outcome(self._keeper.restarted("an operator asked for it"))
        return {**self._verdict(), "previous_pid": before, "seconds": round(self._clock.monotonic() - begun, 3)}

    async def leave_safe_mode(self) -> Document:
        """After a crash loop: forget the failures and try again."""
        if self._keeper.status.state is not AgentState.CRASH_LOOP:
            raise UsageError(
                f"the agent is not in safe mode: it is {self._keeper.status.state.value}",
                hint="to start it anew, restart it",
            )
        return await self.restart()

    async def _outcome(self, work: Awaitable[object]) -> None:
        async def wait() -> None:
            await work

        await first(wait(), self._clock.sleep(OUTCOME_SECONDS))

    def _seen(self) -> Document:
        status = self._keeper.status
        return {"state": self._keeper.told_state.value, "pid": status.pid, "detail": status.detail}

    def _verdict(self) -> Document:
        """Healthy, or still on its way; anything else is an error."""
        status = self._keeper.status
        if status.state is AgentState.HELD:
            raise UsageError(
                f"the agent did not start: it is held ({status.detail})",
                hint="somebody stopped it meanwhile, or a restore is under way: look at /status, and start it again",
            )
        if status.state not in (AgentState.HEALTHY, AgentState.STARTING, AgentState.STOPPING, AgentState.REPAIRING):
            raise AgentError(
                f"the agent did not start: it is {status.state.value} ({_why(status)})",
                hint="its log says why: GET /api/admin/logs",
            )
        return self._seen()

    def _must_be_serving(self, what: str) -> None:
        if self._timeline.phase not in (Phase.LAUNCH, Phase.SERVE):
            raise UsageError(
                f"cannot {what} in the phase {self._timeline.phase.value}", hint="wait until /startupz answers 200"
            )

    # -- maintenance

    def maintenance(self) -> Document:
        """On or off, why, and since when."""
        maintenance = self._maintenance
        return {"on": maintenance.on, "reason": maintenance.reason, "since": maintenance.since}

    def set_maintenance(self, on: bool, reason: str) -> Document:
        """Begin or end it."""
        if on:
            self._maintenance.begin(reason)
        else:
            self._maintenance.end()
        return self.maintenance()

    # -- its devices

    async def devices(self) -> Document:
        """Pending and paired, in the agent's words."""
        devices = await self._ask(lambda registry: registry.list())
        return {
            "pending": [dict(row) for row in devices.pending],
            "paired": [dict(row) for row in devices.paired],
        }

    async def approve(self, request_id: str) -> Document:
        """Let one in."""
        device = await self._ask(lambda registry: registry.approve(request_id))
        return {"request_id": request_id, "device_id": device}

    async def approve_all(self) -> Document:
        """Let all in that ask now."""
        waiting = [str(row.get("requestId", "")) for row in (await self.devices())["pending"]]
        approved: list[str] = []
        failed: list[Document] = []
        for request_id in waiting:
            try:
                await self.approve(request_id)
            except MoltinitError as error:
                failed.append({"requestId": request_id, "success": False, "error": error.message})
            else:
                approved.append(request_id)
        message = (
            f"Approved {len(approved)} of {len(waiting)} device(s)" if waiting else "No pending devices to approve"
        )
        return {"approved": approved, "failed": failed, "message": message}

    async def reject(self, request_id: str) -> Document:
        """Turn one away."""
        device = await self._ask(lambda registry: registry.reject(request_id))
        return {"request_id": request_id, "device_id": device}

    async def remove(self, device_id: str) -> Document:
        """Forget one."""
        await self._ask(lambda registry: registry.remove(device_id))
        return {"device_id": device_id}

    async def _ask(self, question: Callable[[DeviceRegistry], Awaitable[_Result]]) -> _Result:
        registry = self._runtime.devices
        if registry is None:
            raise UsageError(
                f"this agent ({self._runtime.name}) has no devices",
                hint="whoever passes the front door may use it; there is nobody to approve",
            )
        if self._keeper.status.state is not AgentState.HEALTHY:
            raise AgentError(
                f"the agent cannot be asked for its devices: it is {self._keeper.status.state.value}",
                hint="wait until /readyz answers 200, or start it",
            )
        try:
            return await question(registry)
        except UnknownDevice as fault:
            raise NotFound(fault.message, hint=fault.hint) from fault
        except RuntimeFault as fault:
            raise AgentError(fault.message, hint=fault.hint) from fault


def _why(status: AgentStatus) -> str:
    if status.detail:
        return status.detail
    return status.last_exit.reason if status.last_exit else "no reason is known"
