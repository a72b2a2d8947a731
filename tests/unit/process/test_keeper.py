from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent_runtime.contract import LaunchSpec, Probe, RuntimeFault
from supervisor.init.cell.cell import Cell
from supervisor.init.cell.measure import Finding
from supervisor.init.cell.user import same_user
from supervisor.init.reaper import Children
from supervisor.process.backoff import Backoff
from supervisor.process.keeper import Keeper
from supervisor.process.logs import Logs
from supervisor.process.state import AgentState, AgentStatus
from tests.support.agents import ScriptedAgent, running, until
from tests.support.clock import FakeClock

FOREVER = "exec sleep 600"
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"


@dataclass
class Rig:
    """A keeper that runs, with a clock that stands still."""

    agent: ScriptedAgent
    clock: FakeClock = field(default_factory=FakeClock)
    logs: Logs = field(default_factory=Logs)
    history: list[AgentStatus] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keeper = Keeper(
            self.agent,
            clock=self.clock,
            children=Children(),
            logs=self.logs,
            backoff=Backoff(random=lambda: 0.5),
            on_state=self.history.append,
        )

    @property
    def states(self) -> list[str]:
        """The states so far, each once where it was told several times in a row."""
        seen = [str(status.state) for status in self.history]
        return [state for place, state in enumerate(seen) if place == 0 or seen[place - 1] != state]

    async def reach(self, *states: AgentState) -> AgentStatus:
        return await asyncio.wait_for(self.keeper.wait_for(*states), 15)

    async def printed(self, text: str) -> None:
        await until(lambda: any(text in line.text for line in self.logs.tail()))


@asynccontextmanager
async def kept(agent: ScriptedAgent) -> AsyncIterator[Rig]:
    rig = Rig(agent)
    async with asyncio.TaskGroup() as group:
        running_keeper = group.create_task(rig.keeper.run())
        try:
            yield rig
        finally:
            running_keeper.cancel()


async def test_a_started_agent_is_healthy_and_known() -> None:
    async with kept(ScriptedAgent([FOREVER])) as rig:
        status = await rig.reach(AgentState.HEALTHY)
        assert status.ready
        assert status.pid is not None
        assert running(status.pid)
        assert status.started_at == rig.clock.time()
        assert (status.restarts, status.last_exit) == (0, None)
        assert rig.states == ["starting", "healthy"]
    assert not running(status.pid)
    assert rig.keeper.status.state is AgentState.STOPPED


async def test_readiness_waits_for_the_startup_probe() -> None:
    agent = ScriptedAgent([FOREVER], start_probe=Probe(False, "sidecars"))
    async with kept(agent) as rig:
        await until(lambda: rig.keeper.status.pid)
        await rig.clock.advance(30)
        assert rig.keeper.status.state is AgentState.STARTING
        assert not rig.keeper.status.ready
        agent.start_probe = Probe(True)
        await rig.clock.advance(0.5)
        assert rig.keeper.status.ready


async def test_an_agent_that_does_not_start_in_time_is_stopped_and_counted() -> None:
    async with kept(ScriptedAgent([FOREVER], start_probe=Probe(False, "sidecars"))) as rig:
        await until(lambda: rig.keeper.status.pid)
        await rig.clock.advance(181)
        status = await rig.reach(AgentState.BACKING_OFF)
        assert status.last_exit is not None
        assert status.last_exit.reason == "not started within 180 s: sidecars"
        assert status.last_exit.signal == "SIGTERM"
        assert rig.states == ["starting", "unhealthy", "backing-off"]


async def test_three_missed_heartbeats_in_a_row_end_a_life() -> None:
    agent = ScriptedAgent([FOREVER])
    async with kept(agent) as rig:
        await rig.reach(AgentState.HEALTHY)
        agent.live_probe = Probe(False, "no answer")
        await rig.clock.advance(10)
        agent.live_probe = Probe(True)
        await rig.clock.advance(5)
        agent.live_probe = Probe(False, "no answer")
        await rig.clock.advance(10)
        assert rig.keeper.status.ready
        await rig.clock.advance(5)
        status = await rig.reach(AgentState.BACKING_OFF)
        assert status.last_exit is not None
        assert status.last_exit.reason == "3 liveness probes failed in a row: no answer"
        agent.live_probe = Probe(True)
        await rig.clock.advance(1)
        assert (await rig.reach(AgentState.HEALTHY)).restarts == 1


async def test_a_probe_that_hangs_or_breaks_is_a_probe_that_failed() -> None:
    class Odd(ScriptedAgent):
        async def started(self) -> Probe:
            raise ConnectionResetError("reset")

    agent = Odd([FOREVER])
    async with kept(agent) as rig:
        await until(lambda: rig.keeper.status.pid)
        await rig.clock.advance(181)
        status = await rig.reach(AgentState.BACKING_OFF)
        assert status.last_exit is not None
        assert "ConnectionResetError: reset" in status.last_exit.reason

    class Hanging(ScriptedAgent):
        async def live(self) -> Probe:
            await asyncio.Event().wait()
            raise AssertionError

    async with kept(Hanging([FOREVER])) as rig:
        await rig.reach(AgentState.HEALTHY)
        await rig.clock.advance(30)
        status = await rig.reach(AgentState.BACKING_OFF)
        assert status.last_exit is not None
        assert status.last_exit.reason.endswith("no answer within 5 s")


async def test_a_crash_is_restarted_with_growing_waits() -> None:
    async with kept(ScriptedAgent(["exit 1", "kill -SEGV $$", FOREVER])) as rig:
        status = await rig.reach(AgentState.BACKING_OFF)
        assert status.last_exit is not None
        assert (status.last_exit.code, status.last_exit.signal) == (1, None)
        await rig.clock.advance(0.99)
        assert rig.keeper.status.state is AgentState.BACKING_OFF
        await rig.clock.advance(0.02)
        await until(lambda: "next try in 2.0 s" in rig.keeper.status.detail)
        last = rig.keeper.status.last_exit
        assert last is not None
        assert (last.code, last.signal) == (-signal.SIGSEGV, "SIGSEGV")
        await rig.clock.advance(2)
        assert (await rig.reach(AgentState.HEALTHY)).restarts == 2


async def test_five_crashes_are_a_crash_loop_until_an_operator_restarts() -> None:
    agent = ScriptedAgent(["exit 1"] * 5 + [FOREVER])
    async with kept(agent) as rig:
        for wait in (1, 2, 4, 8):
            await until(lambda wait=wait: f"next try in {wait}.0 s" in rig.keeper.status.detail)  # type: ignore[misc]
            await rig.clock.advance(wait)
        status = await rig.reach(AgentState.CRASH_LOOP)
        assert status.detail == "5 lives failed within 10 minutes, the last one: exited by itself"
        await rig.clock.advance(3600)
        assert agent.lives == 5
        rig.keeper.restart("operator")
        await rig.reach(AgentState.HEALTHY)


async def test_before_it_gives_up_it_lets_the_agent_repair_itself_once() -> None:
    agent = ScriptedAgent(["exit 1"], repair_script="echo repaired")
    async with kept(agent) as rig:
        for wait in (1, 2, 4, 8):
            await until(lambda wait=wait: f"next try in {wait}.0 s" in rig.keeper.status.detail)  # type: ignore[misc]
            await rig.clock.advance(wait)
        await rig.reach(AgentState.CRASH_LOOP)
        assert (agent.repairs, agent.lives) == (1, 6)
        await rig.printed("repaired")
        assert rig.states.index("repairing") < len(rig.states) - 1
        assert rig.states[-1] == "crash-loop"


async def test_exit_0_is_restarted_at_once() -> None:
    async with kept(ScriptedAgent(["exit 0", FOREVER])) as rig:
        await until(lambda: rig.keeper.status.restarts == 1)
        status = await rig.reach(AgentState.HEALTHY)
        assert status.last_exit is not None
        assert (status.last_exit.code, status.last_exit.asked) == (0, False)
        assert "backing-off" not in rig.states


async def test_an_agent_that_exits_0_again_and_again_does_not_spin() -> None:
    agent = ScriptedAgent(["exit 0"])
    async with kept(agent) as rig:
        await rig.reach(AgentState.BACKING_OFF)
        assert agent.lives == 6


async def test_exit_78_is_repaired_once_and_started_again() -> None:
    agent = ScriptedAgent(["exit 78", FOREVER], repair_script="echo doctor")
    async with kept(agent) as rig:
        await until(lambda: agent.lives == 2)
        await rig.reach(AgentState.HEALTHY)
        assert agent.repairs == 1
        assert "repairing" in rig.states
        assert "backing-off" not in rig.states


async def test_a_second_exit_78_in_a_row_is_a_failure() -> None:
    agent = ScriptedAgent(["exit 78"], repair_script="true")
    async with kept(agent) as rig:
        await rig.reach(AgentState.BACKING_OFF)
        assert (agent.repairs, agent.lives) == (1, 2)


async def test_an_agent_that_cannot_be_launched_is_a_failed_life() -> None:
    agent = ScriptedAgent([FOREVER], fault=RuntimeFault("there is no gateway", hint="install it"))
    async with kept(agent) as rig:
        status = await rig.reach(AgentState.BACKING_OFF)
        assert status.last_exit is not None
        assert (status.last_exit.code, status.last_exit.reason) == (None, "there is no gateway (install it)")


async def test_restart_is_graceful() -> None:
    agent = ScriptedAgent([FOREVER])
    async with kept(agent) as rig:
        before = await rig.reach(AgentState.HEALTHY)
        rig.keeper.restart("new settings")
        await until(lambda: agent.lives == 2)
        after = await rig.reach(AgentState.HEALTHY)
        assert after.pid != before.pid
        assert after.last_exit is not None
        assert (after.last_exit.reason, after.last_exit.asked) == ("restarted: new settings", True)
        assert agent.drains == [15.0]
        assert rig.states[:3] == ["starting", "healthy", "stopping"]


async def test_stop_drains_then_terminates_and_says_how_it_ended() -> None:
    agent = ScriptedAgent(["trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"])
    async with kept(agent) as rig:
        await rig.reach(AgentState.HEALTHY)
        await rig.printed("up")
        last = await rig.keeper.stop(rig.clock.monotonic() + 10)
        assert last is not None
        assert (last.code, last.asked) == (7, True)
        assert agent.drains == [6.0]
        assert rig.keeper.status.state is AgentState.STOPPED


async def test_stop_kills_what_ignores_sigterm_at_the_deadline() -> None:
    async with kept(ScriptedAgent([STUBBORN])) as rig:
        await rig.reach(AgentState.HEALTHY)
        await rig.printed("up")
        stopping = asyncio.ensure_future(rig.keeper.stop(rig.clock.monotonic() + 10))
        await rig.clock.advance(9.9)
        assert not stopping.done()
        await rig.clock.advance(0.1)
        last = await asyncio.wait_for(stopping, 10)
        assert last is not None
        assert last.signal == "SIGKILL"


async def test_a_second_signal_ends_the_drain_and_shortens_the_wait() -> None:
    @asynccontextmanager
    async def for_ever() -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    urgent = asyncio.Event()
    async with kept(ScriptedAgent([STUBBORN], drain_takes=for_ever)) as rig:
        await rig.reach(AgentState.HEALTHY)
        await rig.printed("up")
        stopping = asyncio.ensure_future(rig.keeper.stop(rig.clock.monotonic() + 300, urgent))
        await rig.clock.advance(100)
        urgent.set()
        await rig.clock.advance(2.1)
        last = await asyncio.wait_for(stopping, 10)
        assert last is not None
        assert last.signal == "SIGKILL"


async def test_a_stop_during_a_slow_restart_keeps_its_own_deadline() -> None:
    async with kept(ScriptedAgent([STUBBORN])) as rig:
        await rig.reach(AgentState.HEALTHY)
        await rig.printed("up")
        rig.keeper.restart("operator")
        await rig.reach(AgentState.STOPPING)
        stopping = asyncio.ensure_future(rig.keeper.stop(rig.clock.monotonic() + 3))
        await rig.clock.advance(3)
        await asyncio.wait_for(stopping, 10)
        assert rig.agent.lives == 1


@pytest.mark.parametrize("scripts", [["exit 1"], ["exit 78"]])
async def test_stop_does_not_wait_for_a_backoff_or_a_repair(scripts: list[str]) -> None:
    agent = ScriptedAgent(scripts, repair_script="echo repairing; sleep 600")
    async with kept(agent) as rig:
        await rig.reach(AgentState.BACKING_OFF, AgentState.REPAIRING)
        last = await asyncio.wait_for(rig.keeper.stop(rig.clock.monotonic() + 10), 10)
        assert last is not None
        assert last.code in (1, 78)


async def test_a_stop_before_the_start_starts_nothing() -> None:
    rig = Rig(ScriptedAgent([FOREVER]))
    assert await rig.keeper.stop(rig.clock.monotonic()) is None
    await rig.keeper.run()
    assert rig.agent.lives == 0


async def test_held_down_the_agent_is_gone_and_afterwards_started_again() -> None:
    agent = ScriptedAgent([FOREVER])
    async with kept(agent) as rig:
        pid = (await rig.reach(AgentState.HEALTHY)).pid
        assert pid is not None
        async with rig.keeper.held_down():
            assert not running(pid)
            async with rig.keeper.held_down():
                await rig.clock.advance(100)
            await rig.clock.advance(100)
            assert agent.lives == 1
            assert rig.keeper.status.state is AgentState.HELD
        await rig.reach(AgentState.HEALTHY)
        assert agent.lives == 2


async def test_holding_down_ends_a_crash_loop() -> None:
    agent = ScriptedAgent(["exit 1"] * 5 + [FOREVER])
    async with kept(agent) as rig:
        for wait in (1, 2, 4, 8):
            await until(lambda wait=wait: f"next try in {wait}.0 s" in rig.keeper.status.detail)  # type: ignore[misc]
            await rig.clock.advance(wait)
        await rig.reach(AgentState.CRASH_LOOP)
        async with rig.keeper.held_down():
            pass
        await rig.reach(AgentState.HEALTHY)


async def test_a_keeper_that_does_not_run_can_be_held_down() -> None:
    rig = Rig(ScriptedAgent([FOREVER]))
    async with asyncio.timeout(5), rig.keeper.held_down():
        pass


async def test_the_agent_is_launched_into_its_cell() -> None:
    found: list[Finding] = []
    cell = Cell(same_user("a test"), own=[Path("/tmp")], hidden=[], observed=found.extend)
    logs = Logs()
    keeper = Keeper(
        ScriptedAgent(["grep NoNewPrivs /proc/self/status; sleep 600"]),
        clock=FakeClock(),
        children=Children(),
        logs=logs,
        cell=cell,
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keeper.run())
        await until(lambda: any(line.text == "NoNewPrivs:\t1" for line in logs.tail()))
        task.cancel()
    assert Finding("no-new-privileges", on=True) in found


async def test_a_program_that_does_not_run_in_its_cell_is_a_failed_life_with_the_reason() -> None:
    cell = Cell(same_user("a test"), own=[], hidden=[])
    keeper = Keeper(
        ScriptedAgent([""]), clock=FakeClock(), children=Children(), logs=Logs(), cell=cell, backoff=Backoff()
    )
    keeper._runtime.launch = lambda: LaunchSpec(("/nowhere/agent",), {}, Path("/"))  # type: ignore[method-assign]
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keeper.run())
        status = await keeper.wait_for(AgentState.BACKING_OFF)
        task.cancel()
    assert "cannot start /nowhere/agent in /: No such file or directory" in status.detail


async def test_the_log_tells_of_starts_and_ends() -> None:
    async with kept(ScriptedAgent(["printf dying; exit 3"])) as rig:
        await rig.reach(AgentState.BACKING_OFF)
        told = [line.text for line in rig.logs.tail()]
        assert told[0].startswith("[moltinit] started scripted, pid ")
        assert told[1:] == ["dying", "[moltinit] scripted ended with 3: exited by itself"]


@dataclass
class History:
    """A config history of which a test sees what was asked of it."""

    kept: Path | None = Path("/home/config.broken")
    news: bool = True
    fault: RuntimeFault | None = None
    asked: list[str] = field(default_factory=list)

    def starting(self) -> None:
        self.asked.append("starting")

    def proven(self) -> bool:
        self.asked.append("proven")
        return self.news

    def roll_back(self) -> Path | None:
        self.asked.append("roll back")
        if self.fault is not None:
            raise self.fault
        return self.kept


class SickAtFirst(ScriptedAgent):
    """Of its lives only the one with the script `FOREVER` ever answers the startup probe: without a probe that fails, a
    program that exits at once may have been healthy for a moment."""

    async def started(self) -> Probe:
        return Probe(self.scripts[min(self.lives, len(self.scripts)) - 1] == FOREVER)


async def crash_until(rig: Rig, *states: AgentState) -> AgentStatus:
    """Let it fail, and wait as long as it wants to wait, until it is in one of the states."""
    while rig.keeper.status.state not in states:
        await rig.reach(AgentState.BACKING_OFF, *states)
        if rig.keeper.status.state is AgentState.BACKING_OFF:
            await rig.clock.advance(70)
            await asyncio.sleep(0.01)
    return rig.keeper.status


async def test_a_config_that_no_repair_helps_is_rolled_back_before_the_agent_is_given_up() -> None:
    history = History()
    agent = SickAtFirst(["exit 1"] * 6 + [FOREVER], repair_script="exit 0", config_history=history)
    async with kept(agent) as rig:
        status = await crash_until(rig, AgentState.HEALTHY, AgentState.CRASH_LOOP)
        assert status.state is AgentState.HEALTHY
        assert agent.repairs == 1
        assert history.asked.count("roll back") == 1
        assert status.rolled_back == "/home/config.broken"


async def test_after_the_last_rung_the_agent_is_left_alone() -> None:
    history = History()
    agent = SickAtFirst(["exit 1"], repair_script="exit 0", config_history=history)
    async with kept(agent) as rig:
        await crash_until(rig, AgentState.CRASH_LOOP)
        assert (agent.repairs, history.asked.count("roll back")) == (1, 1)
        rig.keeper.restart("an operator asked for it")
        await crash_until(rig, AgentState.STARTING)


async def test_a_config_that_cannot_be_started_on_is_rolled_back_as_soon_as_the_repair_has_not_helped() -> None:
    history = History()
    agent = SickAtFirst(["exit 78", "exit 78", FOREVER], repair_script="exit 0", config_history=history)
    async with kept(agent) as rig:
        await rig.reach(AgentState.HEALTHY)
        assert (agent.repairs, history.asked.count("roll back")) == (1, 1)
        assert "backing-off" not in rig.states


@pytest.mark.parametrize("history", [History(kept=None), History(fault=RuntimeFault("the disk is full"))])
async def test_where_there_is_nothing_to_go_back_to_nothing_is_said_to_have_been_rolled_back(history: History) -> None:
    agent = SickAtFirst(["exit 78", "exit 78", FOREVER], repair_script="exit 0", config_history=history)
    async with kept(agent) as rig:
        await rig.reach(AgentState.BACKING_OFF)
        assert rig.keeper.status.rolled_back == ""


async def test_a_config_is_remembered_once_a_life_has_been_healthy_on_it_for_a_minute() -> None:
    history = History()
    async with kept(ScriptedAgent([FOREVER], config_history=history)) as rig:
        await rig.reach(AgentState.HEALTHY)
        await rig.clock.advance(59)
        assert history.asked == ["starting"]
        await rig.clock.advance(62)
        await until(lambda: "proven" in history.asked)


async def test_the_notice_of_a_rolled_back_config_ends_when_another_one_has_proven_itself() -> None:
    history = History(news=False)
    agent = SickAtFirst(["exit 78", "exit 78", FOREVER], repair_script="exit 0", config_history=history)
    async with kept(agent) as rig:
        await rig.reach(AgentState.HEALTHY)
        await rig.clock.advance(130)
        await until(lambda: "proven" in history.asked)
        assert rig.keeper.status.rolled_back, "it still runs on the one that was put in place"
        history.news = True
        await rig.clock.advance(61)
        await until(lambda: not rig.keeper.status.rolled_back)
