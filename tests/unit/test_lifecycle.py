"""One boot, with a real engine on a bucket in memory, and an agent that does as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent_runtime.contract import ConfigureReport, RuntimeFault, SanitiseReport
from supervisor.errors import ExitCode, StoreUnavailable
from supervisor.health.metrics import Metrics
from supervisor.health.problems import Problems
from supervisor.lifecycle import Grace, Lifecycle
from supervisor.phases import INTERRUPTIBLE, NEXT, Outcome, Phase, Timeline
from supervisor.process.state import AgentState, AgentStatus
from supervisor.snapshot.saver import Saver
from supervisor.snapshot.schedule import Pace
from supervisor.store.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.engine import Life


class Agent:
    """Runtime and keeper in one."""

    name = "scripted"

    def __init__(self) -> None:
        self.status = AgentStatus()
        self.launched = asyncio.Event()
        self.events: list[str] = []
        self.stop_seconds = 0.0
        self.faults: list[RuntimeFault] = []
        self.crash: Exception | None = None
        self.stopped_with: float | None = None
        self.before_stop: Callable[[], Awaitable[None]] | None = None
        self.clock: FakeClock | None = None

    def warm_files(self) -> tuple[Path, ...]:
        return ()

    def sanitise(self) -> SanitiseReport:
        return SanitiseReport()

    def configure(self) -> ConfigureReport:
        if self.faults:
            raise self.faults.pop(0)
        self.events.append("configured")
        return ConfigureReport()

    async def run(self) -> None:
        self.events.append("launched")
        self.status = AgentStatus(AgentState.HEALTHY)
        self.launched.set()
        if self.crash:
            await asyncio.sleep(0)
            raise self.crash
        await asyncio.Event().wait()

    async def wait_for(self, *states: AgentState) -> AgentStatus:
        await self.launched.wait()
        assert self.status.state in states
        return self.status

    async def stop(self, deadline: float, *, urgent: asyncio.Event) -> None:
        assert self.clock is not None
        self.stopped_with = deadline - self.clock.monotonic()
        if self.before_stop:
            await self.before_stop()
        await self.clock.sleep(self.stop_seconds)
        self.status = AgentStatus(AgentState.STOPPED)
        self.events.append("stopped")

    @asynccontextmanager
    async def held_down(self) -> AsyncIterator[None]:
        self.events.append("held")
        yield
        self.events.append("let go")


class Bucket(MemoryStore):
    """A bucket that can be out of reach."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = False

    def _check(self) -> None:
        if self.gone:
            raise StoreUnavailable("the bucket is gone")

    async def get(self, key: str, *, limit: int | None = None) -> Any:
        self._check()
        return await super().get(key, limit=limit)

    async def stat(self, key: str) -> Any:
        self._check()
        return await super().stat(key)

    async def put(self, key: str, data: bytes) -> str:
        self._check()
        return await super().put(key, data)

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        self._check()
        return await super().replace(key, data, etag=etag)


class Stop:
    def __init__(self) -> None:
        self.stop_requested = asyncio.Event()
        self.urgent = asyncio.Event()


class Rig:
    """A life that is driven by hand."""

    def __init__(self, place: Path, store: Bucket, grace: float = 25.0) -> None:
        self.clock = FakeClock()
        self.life = Life(store, place, clock=self.clock)
        self.store = store
        self.agent = Agent()
        self.agent.clock = self.clock
        self.stop = Stop()
        self.problems = Problems(self.clock)
        self.doors = 0
        log = structlog.wrap_logger(
            structlog.testing.CapturingLogger(), processors=[structlog.processors.JSONRenderer(default=str)]
        )
        metrics = Metrics(problems=lambda: (), loop_lag_seconds=lambda: 0.0)
        agent: Any = self.agent
        saver = Saver(
            self.life.engine,
            root=self.life.root,
            rules=self.life.engine._rules,
            pace=Pace(),
            clock=self.clock,
            problems=self.problems,
            metrics=metrics,
            log=log,
            quiesce=lambda seconds: agent.held_down(),
        )
        self.timeline = Timeline(self.clock, self.clock.monotonic())
        self.lifecycle = Lifecycle(
            engine=self.life.engine,
            saver=saver,
            keeper=agent,
            runtime=agent,
            stop=self.stop,
            timeline=self.timeline,
            grace=Grace(total=grace),
            clock=self.clock,
            problems=self.problems,
            metrics=metrics,
            log=log,
            open_doors=self._open_doors,
            after_drain=self._after_drain,
        )
        self.task: asyncio.Task[int] | None = None

    async def _open_doors(self) -> None:
        self.doors += 1

    async def _after_drain(self) -> None:
        self.agent.events.append("strays ended")

    async def until(self, phase: Phase, seconds: float = 60.0) -> None:
        """Let time pass until the boot is in `phase`."""
        if self.task is None:
            self.task = asyncio.ensure_future(self.lifecycle.run())
        for _ in range(int(seconds * 10)):
            await self._pass(0.1)
            if self.timeline.phase is phase:
                return
        raise AssertionError(f"{self.timeline.phase} instead of {phase}; {self.problems.listing()}")

    async def _pass(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        await asyncio.sleep(0.002)  # worker threads answer in real time

    async def exit_code(self, seconds: float = 120.0) -> int:
        """Let time pass until it has ended."""
        assert self.task is not None
        for _ in range(int(seconds * 10)):
            await self._pass(0.1)
            if self.task.done():
                break
        for _ in range(1000):  # a busy machine's worker threads need their real time
            if self.task.done():
                break
            await self._pass(0.01)
            await asyncio.sleep(0.02)
        self.life.engine.close()
        return self.task.result()


@pytest.fixture
def store() -> Bucket:
    return Bucket()


def test_every_ending_of_every_phase_leads_on_and_all_ways_end() -> None:
    assert set(NEXT) == set(Phase) - {Phase.EXIT}
    for phase in {Phase.DRAIN, Phase.SEAL}:
        assert Outcome.FENCED in NEXT[phase]
    for phase in INTERRUPTIBLE - {Phase.BOOT, Phase.CLAIM}:
        assert {Outcome.STOPPED, Outcome.FENCED, Outcome.FAILED} <= NEXT[phase].keys()
    order = list(Phase)
    for phase, endings in NEXT.items():
        assert all(order.index(following) > order.index(phase) for following in endings.values())
    launched = (Phase.LAUNCH, Phase.SERVE)
    assert all(following is not Phase.EXIT for phase in launched for following in NEXT[phase].values())


async def test_a_life_from_claim_to_seal(tmp_path: Path, store: Bucket) -> None:
    rig = Rig(tmp_path, store)
    await rig.until(Phase.SERVE)
    (rig.life.root / "said").write_text("hello")
    await rig.clock.advance(1)
    rig.stop.stop_requested.set()
    assert await rig.exit_code() == ExitCode.OK
    assert rig.agent.events == ["configured", "launched", "stopped", "strays ended"]
    head = rig.life.engine.head
    assert head is not None
    assert head.state == "released"
    assert head.snapshots[-1].consistent
    assert rig.doors == 1
    assert set(rig.timeline.timings) == {phase.value for phase in Phase}


async def test_a_bucket_out_of_reach_is_waited_for_with_the_doors_open(tmp_path: Path, store: Bucket) -> None:
    store.gone = True
    rig = Rig(tmp_path, store)
    await rig.until(Phase.CLAIM)
    await rig.clock.advance(30)
    assert "bucket-unavailable" in rig.problems
    assert rig.doors == 1
    assert rig.agent.events == []
    store.gone = False
    await rig.until(Phase.SERVE)
    assert len(rig.problems) == 0
    rig.stop.stop_requested.set()
    assert await rig.exit_code() == ExitCode.OK


async def test_a_stop_while_the_bucket_is_out_of_reach_says_so(tmp_path: Path, store: Bucket) -> None:
    store.gone = True
    rig = Rig(tmp_path, store)
    await rig.until(Phase.CLAIM)
    await rig.clock.advance(5)
    rig.stop.stop_requested.set()
    assert await rig.exit_code() == ExitCode.BUCKET


async def test_a_config_that_cannot_be_made_is_shown_and_tried_again(tmp_path: Path, store: Bucket) -> None:
    rig = Rig(tmp_path, store)
    rig.agent.faults = [RuntimeFault("the program is missing", hint="install it")] * 2
    await rig.until(Phase.CONFIGURE)
    await rig.clock.settle()
    assert rig.problems.listing()[0]["hint"] == "install it"
    await rig.until(Phase.SERVE)
    assert len(rig.problems) == 0
    rig.stop.stop_requested.set()
    assert await rig.exit_code() == ExitCode.OK


async def test_what_is_there_when_the_stop_comes_is_saved_before_the_agent_is_waited_for(
    tmp_path: Path, store: Bucket
) -> None:
    rig = Rig(tmp_path, store)
    await rig.until(Phase.SERVE)
    reasons: list[str] = []

    async def look() -> None:
        for _ in range(200):
            await asyncio.sleep(0.005)
            assert rig.life.engine.head is not None
            reasons[:] = [record.reason for record in rig.life.engine.head.snapshots]
            if "drain" in reasons:
                return

    rig.agent.before_stop = look
    (rig.life.root / "said").write_text("hello")
    rig.stop.stop_requested.set()
    assert await rig.exit_code() == ExitCode.OK
    assert "drain" in reasons


async def test_the_agent_gets_the_grace_less_what_the_last_snapshot_needs(tmp_path: Path, store: Bucket) -> None:
    rig = Rig(tmp_path, store)
    await rig.until(Phase.SERVE)
    rig.stop.stop_requested.set()
    await rig.exit_code()
    assert rig.agent.stopped_with == pytest.approx(25.0 - 7.5, abs=0.3)


async def test_a_seal_that_does_not_get_through_ends_within_the_grace(tmp_path: Path, store: Bucket) -> None:
    rig = Rig(tmp_path, store, grace=3.0)
    await rig.until(Phase.SERVE)
    (rig.life.root / "said").write_text("hello")
    store.gone = True
    rig.stop.stop_requested.set()
    assert await rig.exit_code() == ExitCode.SEAL_INCOMPLETE


async def test_a_second_stop_shortens_the_seal(tmp_path: Path, store: Bucket) -> None:
    rig = Rig(tmp_path, store, grace=600.0)
    await rig.until(Phase.SERVE)
    (rig.life.root / "said").write_text("hello")
    store.gone = True
    rig.stop.stop_requested.set()
    rig.stop.urgent.set()
    began = rig.clock.monotonic()
    assert await rig.exit_code() == ExitCode.SEAL_INCOMPLETE
    assert rig.clock.monotonic() - began < 60


async def test_a_fenced_life_stops_its_agent_and_keeps_its_state_aside(tmp_path: Path, store: Bucket) -> None:
    rig = Rig(tmp_path / "a", store)
    await rig.until(Phase.SERVE)
    (rig.life.root / "said").write_text("only here")
    other = Life(store, tmp_path / "b")
    await other.boot()
    other.engine.close()
    assert await rig.exit_code() == ExitCode.FENCED
    assert "stopped" in rig.agent.events
    assert [info.key async for info in store.list("rescue/")]
    assert "fenced" in rig.problems


async def test_a_fault_of_our_own_saves_what_there_is_and_stops_loudly(tmp_path: Path, store: Bucket) -> None:
    rig = Rig(tmp_path, store)
    rig.agent.crash = RuntimeError("a bug")
    rig.life.root.mkdir(parents=True)
    (rig.life.root / "said").write_text("hello")
    await rig.until(Phase.EXIT)
    assert await rig.exit_code() == ExitCode.INTERNAL
    head = rig.life.engine.head
    assert head is not None
    assert head.snapshots[-1].reason == "final"


async def test_an_agent_that_was_given_up_is_told_by_the_exit_code(tmp_path: Path, store: Bucket) -> None:
    rig = Rig(tmp_path, store)
    await rig.until(Phase.SERVE)
    rig.agent.status = AgentStatus(AgentState.CRASH_LOOP)
    rig.stop.stop_requested.set()
    assert await rig.exit_code() == ExitCode.CRASH_LOOP


async def test_a_restore_in_place_holds_the_agent_down_meanwhile(tmp_path: Path, store: Bucket) -> None:
    rig = Rig(tmp_path, store)
    await rig.until(Phase.SERVE)
    (rig.life.root / "said").write_text("one")
    first = (await rig.lifecycle.take_snapshot("operator")).record
    assert first is not None
    (rig.life.root / "said").write_text("two")
    rig.agent.events.clear()
    task = asyncio.ensure_future(rig.lifecycle.restore(first.sequence))
    for _ in range(300):
        await rig._pass(0.1)
        if task.done():
            break
    task.result()
    assert (rig.life.root / "said").read_text() == "one"
    assert rig.agent.events == ["held", "configured", "let go"]
    rig.stop.stop_requested.set()
    assert await rig.exit_code() == ExitCode.OK


async def test_a_life_that_is_superseded_while_it_stops_keeps_its_state_aside_and_says_fenced(
    tmp_path: Path, store: Bucket
) -> None:
    rig = Rig(tmp_path / "a", store)
    other = Life(store, tmp_path / "b")

    async def supersede() -> None:
        (rig.life.root / "said").write_text("only here")
        await other.boot()
        other.engine.close()

    rig.agent.before_stop = supersede
    await rig.until(Phase.SERVE)
    rig.stop.stop_requested.set()
    assert await rig.exit_code() == ExitCode.FENCED
    assert [info.key async for info in store.list("rescue/")]


async def test_a_life_that_was_superseded_before_its_launch_starts_no_agent(tmp_path: Path, store: Bucket) -> None:
    rig = Rig(tmp_path / "a", store)
    rig.agent.faults = [RuntimeFault("not yet")]
    await rig.until(Phase.CONFIGURE)
    other = Life(store, tmp_path / "b")
    await other.boot()
    other.engine.close()
    assert await rig.exit_code() == ExitCode.FENCED
    assert "launched" not in rig.agent.events


async def test_a_last_snapshot_that_lacks_something_is_tried_again_and_then_told_by_the_exit_code(
    tmp_path: Path, store: Bucket
) -> None:
    rig = Rig(tmp_path, store)
    await rig.until(Phase.SERVE)
    with (rig.life.root / "huge").open("wb") as file:
        file.truncate(1 << 40)
    rig.stop.stop_requested.set()
    assert await rig.exit_code() == ExitCode.SEAL_INCOMPLETE
    head = rig.life.engine.head
    assert head is not None
    assert head.state == "released"


async def test_a_repository_that_cannot_be_let_go_of_costs_the_next_life_a_wait_and_this_one_nothing(
    tmp_path: Path, store: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, store)
    await rig.until(Phase.SERVE)

    async def refused() -> None:
        raise StoreUnavailable("no")

    monkeypatch.setattr(rig.life.engine, "release", refused)
    rig.stop.stop_requested.set()
    assert await rig.exit_code() == ExitCode.OK
