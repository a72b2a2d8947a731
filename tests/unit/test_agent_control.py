import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent_runtime.contract import DeviceList, Probe, RuntimeFault, UnknownDevice
from supervisor.agent_control import OUTCOME_SECONDS, AgentControl
from supervisor.errors import AgentError, NotFound, UsageError
from supervisor.health.maintenance import Maintenance
from supervisor.health.problems import Problems
from supervisor.init.reaper import Children
from supervisor.phases import Phase, Timeline
from supervisor.process.backoff import Backoff
from supervisor.process.keeper import Keeper
from supervisor.process.logs import Logs
from supervisor.process.state import AgentState
from tests.support.agents import ScriptedAgent, running
from tests.support.clock import FakeClock

FOREVER = "exec sleep 600"


@dataclass
class FakeDevices:
    """A registry in memory."""

    pending: list[str] = field(default_factory=lambda: ["r1", "r2", "r3"])
    paired: list[str] = field(default_factory=list)
    stubborn: str = ""

    async def list(self) -> DeviceList:
        rows: list[Mapping[str, Any]] = [{"requestId": name} for name in self.pending]
        return DeviceList(rows, [{"deviceId": name} for name in self.paired])

    async def approve(self, request_id: str) -> str:
        if request_id == self.stubborn:
            raise RuntimeFault("the gateway did not answer")
        await self.reject(request_id)
        self.paired.append(f"d-{request_id}")
        return f"d-{request_id}"

    async def reject(self, request_id: str) -> str:
        if request_id not in self.pending:
            raise UnknownDevice(f"no request {request_id}", hint="list them")
        self.pending.remove(request_id)
        return f"d-{request_id}"

    async def remove(self, device_id: str) -> None:
        if device_id not in self.paired:
            raise UnknownDevice(f"no device {device_id}")
        self.paired.remove(device_id)


class Rig:
    """An agent that is kept, and an operator's hand on it."""

    def __init__(self, agent: ScriptedAgent, phase: Phase = Phase.SERVE) -> None:
        self.agent = agent
        self.clock = FakeClock()
        self.problems = Problems(self.clock)
        self.maintenance = Maintenance(self.clock, self.problems)
        self.keeper = Keeper(
            agent,
            clock=self.clock,
            children=Children(),
            logs=Logs(),
            backoff=Backoff(random=lambda: 0.5),
            maintenance=self.maintenance,
        )
        timeline = Timeline(self.clock, self.clock.monotonic())
        timeline.enter(phase)
        self.control = AgentControl(
            keeper=self.keeper,
            runtime=agent,
            timeline=timeline,
            maintenance=self.maintenance,
            clock=self.clock,
        )

    async def reach(self, *states: AgentState) -> None:
        await asyncio.wait_for(self.keeper.wait_for(*states), 15)


@asynccontextmanager
async def kept(agent: ScriptedAgent) -> AsyncIterator[Rig]:
    rig = Rig(agent)
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(rig.keeper.run())
        try:
            yield rig
        finally:
            keeping.cancel()


async def test_a_stopped_agent_stays_down_until_it_is_started() -> None:
    async with kept(ScriptedAgent([FOREVER])) as rig:
        await rig.reach(AgentState.HEALTHY)
        pid = rig.keeper.status.pid
        assert pid is not None
        assert await rig.control.stop() == {"state": "stopped", "pid": None, "detail": "stopped by an operator"}
        assert not running(pid)
        async with rig.keeper.held_down():
            pass
        await rig.clock.advance(300)
        assert rig.keeper.status.state is AgentState.HELD, "a restore leaves it stopped"
        started = await rig.control.start()
        assert started["state"] == "healthy"
        assert (await rig.control.start())["pid"] == started["pid"], "starting what runs changes nothing"


async def test_a_restart_says_what_became_of_it() -> None:
    async with kept(ScriptedAgent([FOREVER, FOREVER, "exit 3"])) as rig:
        await rig.reach(AgentState.HEALTHY)
        before = rig.keeper.status.pid
        answer = await rig.control.restart()
        assert (answer["state"], answer["previous_pid"]) == ("healthy", before)
        assert answer["pid"] not in (None, before)
        rig.agent.start_probe = Probe(False, "not yet")
        with pytest.raises(AgentError, match=r"did not start: it is backing-off \(exited by itself"):
            await rig.control.restart()


async def test_a_restart_starts_a_stopped_agent() -> None:
    async with kept(ScriptedAgent([FOREVER])) as rig:
        await rig.reach(AgentState.HEALTHY)
        await rig.control.stop()
        assert (await rig.control.restart())["state"] == "healthy"


async def test_an_agent_that_takes_too_long_is_said_to_be_starting() -> None:
    async with kept(ScriptedAgent([FOREVER])) as rig:
        await rig.reach(AgentState.HEALTHY)
        rig.agent.start_probe = Probe(False, "sidecars")
        asked = asyncio.ensure_future(rig.control.restart())
        await rig.reach(AgentState.STARTING)
        while not asked.done():
            await rig.clock.advance(OUTCOME_SECONDS / 8)
            await asyncio.sleep(0.01)
        assert asked.result()["state"] == "starting"


async def test_safe_mode_is_left_by_trying_again() -> None:
    async with kept(ScriptedAgent(["exit 3"] * 5 + [FOREVER])) as rig:
        with pytest.raises(UsageError, match="not in safe mode"):
            await rig.control.leave_safe_mode()
        giving_up = asyncio.ensure_future(rig.reach(AgentState.CRASH_LOOP))
        while not giving_up.done():
            await rig.clock.advance(5)
            await asyncio.sleep(0.01)
        await giving_up
        assert (await rig.control.leave_safe_mode())["state"] == "healthy"


async def test_in_maintenance_an_agent_that_ends_is_left_as_it_is() -> None:
    async with kept(ScriptedAgent(["sleep 0.3; exit 3", FOREVER])) as rig:
        rig.control.set_maintenance(True, "a look")
        await rig.reach(AgentState.HELD)
        assert "not restarted during maintenance" in rig.keeper.status.detail
        await rig.clock.advance(600)
        assert rig.agent.lives == 1
        rig.control.set_maintenance(False, "")
        await rig.reach(AgentState.HEALTHY)
        assert rig.agent.lives == 2


async def test_in_maintenance_an_operator_may_start_what_has_ended() -> None:
    async with kept(ScriptedAgent(["exit 3", FOREVER])) as rig:
        rig.control.set_maintenance(True, "")
        await rig.reach(AgentState.HELD)
        assert (await rig.control.start())["state"] == "healthy"


async def test_in_maintenance_an_agent_that_does_not_answer_is_left_alive() -> None:
    async with kept(ScriptedAgent([FOREVER])) as rig:
        await rig.reach(AgentState.HEALTHY)
        pid = rig.keeper.status.pid
        assert pid is not None
        rig.control.set_maintenance(True, "")
        rig.agent.live_probe = rig.agent.start_probe = Probe(False, "no answer")
        await rig.clock.advance(20)
        assert rig.keeper.status.state is AgentState.UNHEALTHY
        await rig.clock.advance(400)
        assert running(pid)
        rig.agent.live_probe = rig.agent.start_probe = Probe(True)
        await rig.clock.advance(5)
        assert rig.keeper.status.state is AgentState.HEALTHY


async def test_before_it_serves_nothing_is_started_or_stopped() -> None:
    rig = Rig(ScriptedAgent([FOREVER]), Phase.RESTORE)
    for work in (rig.control.stop, rig.control.start, rig.control.restart):
        with pytest.raises(UsageError, match="in the phase restore"):
            await work()


async def test_devices_are_asked_of_the_agents_registry() -> None:
    registry = FakeDevices(stubborn="r2")
    async with kept(ScriptedAgent([FOREVER], devices=registry)) as rig:
        await rig.reach(AgentState.HEALTHY)
        control = rig.control
        assert await control.reject("r1") == {"request_id": "r1", "device_id": "d-r1"}
        assert await control.approve_all() == {
            "approved": ["r3"],
            "failed": [{"requestId": "r2", "success": False, "error": "the gateway did not answer"}],
            "message": "Approved 1 of 2 device(s)",
        }
        assert await control.devices() == {"pending": [{"requestId": "r2"}], "paired": [{"deviceId": "d-r3"}]}
        assert await control.remove("d-r3") == {"device_id": "d-r3"}
        with pytest.raises(NotFound, match="no device d-r3"):
            await control.remove("d-r3")
        with pytest.raises(AgentError, match="did not answer"):
            await control.approve("r2")
        registry.pending.clear()
        assert (await control.approve_all())["message"] == "No pending devices to approve"
        await control.stop()
        with pytest.raises(AgentError, match="it is held"):
            await control.devices()


async def test_an_agent_without_devices_says_so() -> None:
    rig = Rig(ScriptedAgent([FOREVER]))
    with pytest.raises(UsageError, match=r"this agent \(scripted\) has no devices"):
        await rig.control.devices()
