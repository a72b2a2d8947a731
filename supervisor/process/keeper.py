"""Keeping the agent alive: start, watch, restart, repair, give up, and stop in time.

`run` is the only place that starts and ends the agent's process. Everyone else states a wish (stop, restart,
hold down) and wakes it.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from agent_runtime.contract import AgentRuntime, ExitVerdict, LaunchSpec, RuntimeFault
from supervisor.clock import Clock
from supervisor.errors import AgentError
from supervisor.health.maintenance import Maintenance
from supervisor.init.cell.cell import Cell
from supervisor.init.events import EventLog, NoLog
from supervisor.init.reaper import Children
from supervisor.process.backoff import Backoff
from supervisor.process.child import HURRY_SECONDS, Child, cannot_start
from supervisor.process.logs import Logs
from supervisor.process.oom import oom_kills
from supervisor.process.probes import Health, ProbePolicy
from supervisor.process.race import first
from supervisor.process.state import AgentState, AgentStatus, LastExit

STOP_SECONDS = 20.0
"""Drain and stop for a restart or a hold, where no deadline of the machine presses."""
SICK_STOP_SECONDS = 10.0
"""Stop of an agent that no longer answers: it gets SIGTERM, for its databases' sake, but no drain."""
TERM_RESERVE_SECONDS = 5.0
"""Kept back from the drain for the time between SIGTERM and the exit (0.3-0.9 s for a drained gateway)."""
REPAIR_SECONDS = 300.0
PROVE_SECONDS = 60.0
"""A config that a life was healthy on for so long is one to go back to."""

SETTLED = frozenset(
    {AgentState.HEALTHY, AgentState.BACKING_OFF, AgentState.CRASH_LOOP, AgentState.HELD, AgentState.STOPPED}
)
"""States that a start comes to in the end."""


@dataclass(slots=True)
class _Stop:
    deadline: float
    urgent: asyncio.Event


@dataclass(frozen=True, slots=True)
class _LifeEnd:
    code: int | None
    reason: str
    healthy_seconds: float = 0.0
    own_exit: bool = False
    """The program ended by itself, so that its exit code means something."""
    asked: bool = False


@dataclass(slots=True)
class _Wishes:
    stop: _Stop | None = None
    holds: int = 0
    parked: str | None = None
    restart: str | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def pending(self) -> str | None:
        if self.stop is not None:
            return "stopped on request"
        if self.holds:
            return "held down"
        if self.parked is not None:
            return self.parked
        return None if self.restart is None else f"restarted: {self.restart}"


class Keeper:
    """The life of the agent's process.

    Args:
        children: the registry that the reaper respects.
        cell: what the agent is locked into, and its repairs too.
        maintenance: while it is on, an agent that ends or does not answer is left as it is.
        on_state: called in the event loop with every change.
    """

    def __init__(
        self,
        runtime: AgentRuntime,
        *,
        clock: Clock,
        children: Children,
        logs: Logs,
        backoff: Backoff | None = None,
        probes: ProbePolicy | None = None,
        cell: Cell | None = None,
        on_state: Callable[[AgentStatus], None] = lambda status: None,
        maintenance: Maintenance | None = None,
        log: EventLog | None = None,
    ) -> None:
        self._runtime = runtime
        self._clock = clock
        self._children = children
        self._logs = logs
        self._backoff = backoff or Backoff()
        self._probes = probes or ProbePolicy()
        self._cell = cell
        self._on_state = on_state
        self._maintenance = maintenance
        self._log: EventLog = NoLog() if log is None else log
        self._status = AgentStatus()
        self._state_changed = asyncio.Event()
        self._wishes = _Wishes()
        self._running = False
        self._finished = asyncio.Event()
        self._down = asyncio.Event()
        self._down.set()
        self._lives = 0
        self._starts = 0
        self._automatic = False
        self._delay = 0.0
        self._repaired = False
        self._rolled_back = False
        self._gave_up = False

    @property
    def status(self) -> AgentStatus:
        """The agent now."""
        return self._status

    async def run(self) -> None:
        """Keep the agent alive until `stop`; cancelled, it kills the agent first."""
        self._running = True
        try:
            while self._wishes.stop is None:
                if self._wishes.holds or self._wishes.parked is not None:
                    await self._stay_held()
                elif self._gave_up:
                    await self._wished()
                elif self._automatic and self._left_alone:
                    await self._wait_for_maintenance()
                else:
                    await self._live_once()
        finally:
            self._running = False
            self._set(AgentState.STOPPED, detail="")
            self._finished.set()

    async def stop(self, deadline: float, urgent: asyncio.Event | None = None) -> LastExit | None:
        """Drain, TERM, KILL, done by `deadline` (monotonic seconds of the clock); for good.

        Once `urgent` is set, the drain ends and about two seconds are left for the rest. Returns the last
        exit.
        """
        self._wishes.stop = _Stop(deadline, urgent or asyncio.Event())
        self._wishes.changed.set()
        if self._running:
            await self._finished.wait()
        return self._status.last_exit

    def restart(self, reason: str) -> None:
        """Stop the agent gracefully and start it again; also the operator's way out of a crash loop or a
        wait."""
        self._forgive()
        self._automatic = False
        self._wishes.restart = reason
        self._wishes.changed.set()

    async def restarted(self, reason: str) -> AgentStatus:
        """`restart`, also of a parked agent; returns what became of it: one of `SETTLED`."""
        self._wishes.parked = None
        before = self._starts
        self.restart(reason)
        await self._until(lambda: self._starts > before or self._wishes.stop is not None)
        return await self.wait_for(*SETTLED)

    async def park(self, reason: str) -> AgentStatus:
        """Stop the agent gracefully and leave it down until `restarted`; returns when it is down."""
        self._wishes.parked = reason
        self._wishes.changed.set()
        await self._until(
            lambda: self._wishes.parked is None or self._status.state in (AgentState.HELD, AgentState.STOPPED)
        )
        return self._status

    @property
    def parked(self) -> bool:
        """Has somebody asked for the agent to stay down?"""
        return self._wishes.parked is not None

    @property
    def told_state(self) -> AgentState:
        """The state for people: who stopped the agent calls it stopped, though it is held like one in a restore."""
        held = self._status.state is AgentState.HELD
        return AgentState.STOPPED if held and self.parked else self._status.state

    @asynccontextmanager
    async def held_down(self) -> AsyncIterator[None]:
        """Inside, the agent is down and stays down (a restore is put in place); afterwards it is started
        anew."""
        self._wishes.holds += 1
        self._wishes.changed.set()
        try:
            await self._down.wait()
            yield
        finally:
            self._wishes.holds -= 1
            # As a wish of its own: a short hold may be over before a waiting `run` has seen it.
            self.restart("after it was held down")

    async def wait_for(self, *states: AgentState) -> AgentStatus:
        """Until the agent is in one of these states."""
        await self._until(lambda: self._status.state in states)
        return self._status

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._state_changed.wait()

    # -- one life ----------------------------------------

    async def _live_once(self) -> None:
        self._wishes.restart = None
        self._down.clear()
        try:
            end = await self._life()
            self._note_end(end)
            self._automatic = not end.asked
            if self._automatic and self._left_alone:
                self._set(AgentState.HELD, detail=f"{end.reason}; not restarted during maintenance")
            elif self._automatic:
                await self._judge(end)
        finally:
            self._down.set()
        if self._status.state is AgentState.BACKING_OFF:
            await first(self._clock.sleep(self._delay), self._wished())

    async def _life(self) -> _LifeEnd:
        self._starts += 1
        self._set(AgentState.STARTING, detail="")
        kills_before = oom_kills()
        try:
            spec = await asyncio.to_thread(self._runtime.launch)
            if (history := self._runtime.config_history) is not None:
                await asyncio.to_thread(history.starting)
            if wish := self._wishes.pending():
                return _LifeEnd(None, wish, asked=True)
            child = await self._spawn(spec)
        except (RuntimeFault, AgentError) as error:
            return _LifeEnd(None, f"{error.message} ({error.hint})" if error.hint else error.message)
        self._status = replace(self._status, restarts=self._lives)
        self._lives += 1
        self._set(AgentState.STARTING, pid=child.pid, started_at=self._clock.time())
        self._logs.note(f"started {self._runtime.name}, pid {child.pid}")
        health = Health(self._runtime, self._clock, self._probes)
        try:
            end = await self._watch(child, health)
        finally:
            left = await child.clear()
            self._logs.end()
        if left.left:
            self._log.warning("processes of the agent could not be ended", pids=left.left)
        code = child.exit_code
        grown = (oom_kills() or 0) > (kills_before or 0)
        if end.own_exit and code == -signal.SIGKILL and kills_before is not None and grown:
            return replace(end, code=code, reason="killed by the kernel for want of memory")
        return replace(end, code=code)

    async def _watch(self, child: Child, health: Health) -> _LifeEnd:
        complaints: list[str] = []

        async def sicken() -> None:
            while True:
                complaint = await health.watch(lambda: self._set(AgentState.HEALTHY, detail=""))
                if not self._left_alone:
                    break
                self._set(AgentState.UNHEALTHY, detail=f"{complaint}; left alone during maintenance")
            complaints.append(complaint)

        match await first(child.wait(), self._wished(), sicken(), self._prove(health)):
            case 0:
                return _LifeEnd(None, "exited by itself", health.healthy_seconds, own_exit=True)
            case 1:
                reason = self._wishes.pending() or "asked to"
                self._set(AgentState.STOPPING, detail=reason)
                await self._farewell(child, STOP_SECONDS, drain=True)
                return _LifeEnd(None, reason, health.healthy_seconds, asked=True)
            case _:
                self._set(AgentState.UNHEALTHY, detail=complaints[0])
                await self._farewell(child, SICK_STOP_SECONDS, drain=False)
                return _LifeEnd(None, complaints[0], health.healthy_seconds)

    async def _farewell(self, child: Child, seconds: float, *, drain: bool) -> None:
        """Drain and TERM inside the time that there is; the KILL comes with `clear`."""
        limit = self._clock.monotonic() + seconds
        if drain:
            left = self._limit(limit) - self._clock.monotonic()
            reserve = min(TERM_RESERVE_SECONDS, 0.4 * left)
            if left > 0:
                await first(
                    self._runtime.drain(left - reserve),
                    child.wait(),
                    self._time_up(limit, margin=reserve, hurried=0),
                )
        child.signal(signal.SIGTERM)
        await first(child.wait(), self._time_up(limit, margin=0, hurried=HURRY_SECONDS))

    async def _spawn(self, spec: LaunchSpec) -> Child:
        child = Child.spawn(spec, output=self._logs.feed, children=self._children, cell=self._cell)
        if self._cell is not None:
            try:
                report = await child.entered()
                if "error" in report:
                    raise cannot_start(spec, str(report["error"]))
                self._cell.look(child.pid, spec, report)
            except BaseException:
                await child.clear()
                raise
        return child

    # -- what follows from its end ----------------------------------------

    async def _judge(self, end: _LifeEnd) -> None:
        now = self._clock.monotonic()
        if self._backoff.lived(end.healthy_seconds):
            self._repaired = self._rolled_back = False
        verdict = ExitVerdict.FAILURE
        if end.own_exit and end.code is not None:
            verdict = await asyncio.to_thread(self._runtime.verdict, end.code)
        if verdict is ExitVerdict.RESTART and self._backoff.free_restart(now):
            return
        if verdict is ExitVerdict.REPAIR and (await self._repair(end.reason) or await self._roll_back()):
            return
        self._delay = self._backoff.failed(now)
        if not self._backoff.crash_loop(now):
            self._set(AgentState.BACKING_OFF, detail=f"{end.reason}; next try in {self._delay:.1f} s")
        elif not (await self._repair("crash loop") or await self._roll_back()):
            self._gave_up = True
            lives = self._backoff.policy.failures
            minutes = self._backoff.policy.failure_window / 60
            self._set(
                AgentState.CRASH_LOOP,
                detail=f"{lives} lives failed within {minutes:g} minutes, the last one: {end.reason}",
            )

    async def _repair(self, reason: str) -> bool:
        """Run the agent's own repair to its end, once until a life was healthy again; False where it was not
        run."""
        if self._repaired:
            return False
        self._repaired = True
        try:
            spec = await asyncio.to_thread(self._runtime.repair)
            if spec is None:
                return False
            self._set(AgentState.REPAIRING, detail=reason)
            child = await self._spawn(spec)
        except (RuntimeFault, AgentError) as error:
            self._log.warning("the repair could not be run", reason=error.message)
            return False
        limit = self._clock.monotonic() + REPAIR_SECONDS
        try:
            await first(child.wait(), self._stopping(), self._clock.sleep(REPAIR_SECONDS))
            if child.exit_code is None:
                child.signal(signal.SIGTERM)
                await first(child.wait(), self._time_up(limit + HURRY_SECONDS, margin=0, hurried=HURRY_SECONDS))
        finally:
            await child.clear()
            self._logs.end()
        self._logs.note(f"the repair ended with {child.exit_code}")
        self._log.info("repair ended", code=child.exit_code)
        return True

    async def _roll_back(self) -> bool:
        """Put the last healthy config in place, once until a life was healthy again; False where there is none, or it
        is the one that failed."""
        history = self._runtime.config_history
        if self._rolled_back or history is None:
            return False
        self._rolled_back = True
        try:
            kept = await asyncio.to_thread(history.roll_back)
        except RuntimeFault as error:
            self._log.warning("the config could not be rolled back", reason=error.message)
            return False
        if kept is None:
            return False
        self._status = replace(self._status, rolled_back=str(kept))
        self._logs.note(f"the last healthy config is in place; the other is kept as {kept}")
        self._log.warning("config rolled back", kept=str(kept))
        return True

    async def _prove(self, health: Health) -> None:
        """While a life is healthy, what it runs on becomes the config to go back to."""
        history = self._runtime.config_history
        while history is not None:
            await self._clock.sleep(PROVE_SECONDS)
            if health.healthy_seconds < PROVE_SECONDS:
                continue
            try:
                news = await asyncio.to_thread(history.proven)
            except RuntimeFault as error:
                self._log.warning("the healthy config could not be kept", reason=error.message)
            else:
                if news and self._status.rolled_back:
                    self._status = replace(self._status, rolled_back="")
                    self._on_state(self._status)
        await asyncio.Event().wait()

    async def _stay_held(self) -> None:
        while (self._wishes.holds or self._wishes.parked is not None) and self._wishes.stop is None:
            self._set(AgentState.HELD, detail=self._wishes.pending() or "")
            self._wishes.changed.clear()
            await self._wishes.changed.wait()

    @property
    def _left_alone(self) -> bool:
        return self._maintenance is not None and self._maintenance.on

    async def _wait_for_maintenance(self) -> None:
        assert self._maintenance is not None, "the only one who asks has looked"
        if self._status.state is not AgentState.HELD:
            self._set(AgentState.HELD, detail="not restarted during maintenance")
        await first(self._maintenance.over(), self._wished())

    def _forgive(self) -> None:
        self._backoff.reset()
        self._repaired = self._rolled_back = False
        self._gave_up = False

    # -- waiting ----------------------------------------

    async def _wished(self) -> None:
        while self._wishes.pending() is None:
            self._wishes.changed.clear()
            await self._wishes.changed.wait()

    async def _stopping(self) -> None:
        while self._wishes.stop is None:
            self._wishes.changed.clear()
            await self._wishes.changed.wait()

    def _limit(self, limit: float) -> float:
        stop = self._wishes.stop
        return limit if stop is None else min(limit, stop.deadline)

    async def _time_up(self, limit: float, *, margin: float, hurried: float) -> None:
        """Until `margin` seconds before the limit or the stop's deadline, which may still be set meanwhile;
        or until `hurried` seconds after the stop became urgent."""
        while True:
            stop = self._wishes.stop
            left = self._limit(limit) - margin - self._clock.monotonic()
            if stop is not None and stop.urgent.is_set():
                await self._clock.sleep(max(0.0, min(left, hurried)))
                return
            if left <= 0:
                return
            self._wishes.changed.clear()
            waits = [self._clock.sleep(left), self._wishes.changed.wait()]
            if stop is not None:
                waits.append(stop.urgent.wait())
            await first(*waits)

    # -- telling ----------------------------------------

    def _note_end(self, end: _LifeEnd) -> None:
        last = LastExit(end.code, self._clock.time(), end.reason, end.asked)
        self._status = replace(self._status, last_exit=last, pid=None, started_at=None)
        self._logs.note(f"{self._runtime.name} ended with {last.signal or end.code}: {end.reason}")
        tell = self._log.info if end.asked else self._log.warning
        tell(
            "agent ended",
            code=end.code,
            signal=last.signal,
            reason=end.reason,
            healthy_seconds=end.healthy_seconds,
        )

    def _set(self, state: AgentState, **changes: object) -> None:
        self._status = replace(self._status, state=state, **changes)  # type: ignore[arg-type]
        self._log.info("agent", state=state.value, detail=self._status.detail, pid=self._status.pid)
        self._state_changed.set()
        self._state_changed = asyncio.Event()
        self._on_state(self._status)
