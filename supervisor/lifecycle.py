"""One boot, from claim to seal: boot, claim, restore, configure, launch, serve, drain, seal, exit.

`phases.py` holds the table; here is what is done in each phase, from top to bottom. Errors of the bucket and of the
agent never end a boot: they are shown, and tried again, with the port up so that an operator can read why. What does
end it: a stop, another writer (fenced), and a fault of moltinit's own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from agent_runtime.contract import AgentRuntime, RuntimeFault
from supervisor.clock import Clock
from supervisor.concurrency import task_group
from supervisor.errors import AgentError, DiskError, ExitCode, Fenced, MoltinitError, UsageError
from supervisor.health import bucket
from supervisor.health.metrics import Metrics
from supervisor.health.problems import Problems
from supervisor.phases import INTERRUPTIBLE, NEXT, Outcome, Phase, Timeline
from supervisor.process.keeper import Keeper
from supervisor.process.race import first
from supervisor.process.state import AgentState
from supervisor.process.warming import Warming
from supervisor.snapshot.engine import BroughtBack, Engine
from supervisor.snapshot.format import Head, SnapshotRecord
from supervisor.snapshot.handover import Patience
from supervisor.snapshot.report import tell
from supervisor.snapshot.saver import Saver
from supervisor.snapshot.snapshotter import Taken

RETRY_LEAST, RETRY_MOST = 1.0, 10.0
"""Seconds between two attempts to claim, restore or configure, doubling from the first to the second."""

DOORS_SECONDS = 1.0
"""After this the front door opens even though the agent is not launched yet: somebody may want to know why."""

UNREAD_ATTEMPTS = 3
"""How often the last snapshot is taken again because something could not be read."""

HANDOVER_MARGIN = 5.0
"""Seconds that a newcomer allows a holder beyond its grace, for the requests around it."""

SPAWN_SECONDS = 0.25
"""By then the agent's process has been spawned; an import at the same time would hold it up."""

_Result = TypeVar("_Result")


class StopRequest(Protocol):
    """The wish to end: `stop_requested` begins the drain, `urgent` shortens what is left of it."""

    @property
    def stop_requested(self) -> asyncio.Event: ...

    @property
    def urgent(self) -> asyncio.Event: ...


@dataclass(frozen=True, slots=True)
class Grace:
    """How the time between the stop request and the exit is spent, in seconds.

    Args:
        total: drain and seal together.
        urgent: what is left of it after a second stop signal.
    """

    total: float = 25.0
    urgent: float = 5.0

    @property
    def seal(self) -> float:
        """What the agent's own stop must leave for the last snapshot: it is small as a rule, but the bucket may be
        slow, and it is what the next life carries on from."""
        return min(max(5.0, 0.3 * self.total), self.total / 2)


class Lifecycle:
    """See the module. Built once per boot; `run` returns the exit code.

    Args:
        open_doors: opens the front door; slow.
        after_drain: ends processes that outlived the agent.
        on_phase: called when a phase begins.
        page: where people reach the agent, for the log.
        claimed: is told what HEAD says when the repository is this life's.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        saver: Saver,
        keeper: Keeper,
        runtime: AgentRuntime,
        stop: StopRequest,
        timeline: Timeline,
        grace: Grace,
        clock: Clock,
        problems: Problems,
        metrics: Metrics,
        log: FilteringBoundLogger,
        open_doors: Callable[[], Awaitable[None]],
        after_drain: Callable[[], Awaitable[None]],
        on_phase: Callable[[Phase], None] = lambda phase: None,
        page: str = "",
        claimed: Callable[[Head], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._saver = saver
        self._keeper = keeper
        self._runtime = runtime
        self._stop = stop
        self._timeline = timeline
        self._grace = grace
        self._clock = clock
        self._problems = problems
        self._metrics = metrics
        self._log = log
        self._open_doors = open_doors
        self._after_drain = after_drain
        self._on_phase = on_phase
        self._page = page
        self._claimed = claimed
        self._interrupted = asyncio.Event()
        self._launched = asyncio.Event()
        self._fence: Fenced | None = None
        self._leaving = False
        self._fault: BaseException | None = None
        self._failure: MoltinitError | None = None
        self._unsealed = ""
        self._gave_up = False
        self._warming = Warming(runtime.warm_files)
        self._background: list[asyncio.Task[None]] = []
        self._group: asyncio.TaskGroup | None = None
        self._deadline = float("inf")
        self.brought_back: BroughtBack | None = None

    @property
    def phase(self) -> Phase:
        """Where this boot stands."""
        return self._timeline.phase

    async def run(self, *watches: Callable[[], Coroutine[Any, Any, None]]) -> int:
        """Live one life; returns what to exit with (docs/lifecycle.md lists the codes).

        Args:
            watches: run beside it from beginning to end.
        """
        async with task_group() as group:
            self._group = group
            beside = [group.create_task(self._guarded(watch())) for watch in watches]
            phase = Phase.BOOT
            while phase is not Phase.EXIT:
                outcome = await self._live_through(phase)
                phase = NEXT[phase][outcome]
                self._enter(phase, outcome)
            self._end_background()
            for task in beside:
                task.cancel()
        code = self._exit_code()
        self._log.info("lifecycle.exit", code=int(code), reason=code.name.lower().replace("_", "-"))
        return int(code)

    def _enter(self, phase: Phase, outcome: Outcome) -> None:
        before = self._timeline.phase
        seconds = self._timeline.enter(phase)
        self._on_phase(phase)
        self._metrics.phase_ended(before.value, seconds, target=phase.value)
        self._log.info(
            "lifecycle.phase",
            phase=phase.value,
            after=before.value,
            outcome=outcome.value,
            seconds=round(seconds, 3),
        )

    async def _live_through(self, phase: Phase) -> Outcome:
        work = {
            Phase.BOOT: self._boot,
            Phase.CLAIM: self._claim,
            Phase.RESTORE: self._restore,
            Phase.CONFIGURE: self._configure,
            Phase.LAUNCH: self._launch,
            Phase.SERVE: self._serve,
            Phase.DRAIN: self._drain,
            Phase.SEAL: self._seal,
        }[phase]
        try:
            if phase not in INTERRUPTIBLE:
                await work()
                return Outcome.DONE
            return await self._until_interrupted(work())
        except Fenced as error:
            self._fenced(error)
            return Outcome.FENCED
        except Exception as error:
            self._failed(error)
            return Outcome.FAILED

    async def _until_interrupted(self, work: Coroutine[Any, Any, None]) -> Outcome:
        tasks = [asyncio.ensure_future(t) for t in (work, self._stop.stop_requested.wait(), self._interrupted.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        if tasks[0].done() and not tasks[0].cancelled() and tasks[0].exception() is not None:
            tasks[0].result()
        if self._fence is not None:
            return Outcome.FENCED
        if self._fault is not None:
            return Outcome.FAILED
        if self._stop.stop_requested.is_set():
            return Outcome.STOPPED
        return Outcome.HANDED_OVER if self._leaving else Outcome.DONE

    # -- the phases

    async def _boot(self) -> None:
        self._warming.start()
        self._start(self._open_doors_soon())

    async def _claim(self) -> None:
        patience = Patience(release=self._grace.total + HANDOVER_MARGIN)
        head = await self._persist(lambda: self._engine.claim(patience, self._waiting))
        self._claimed(head)
        self._log.info("repository.claimed", epoch=head.epoch, snapshots=len(head.snapshots))

    def _waiting(self, head: Head) -> None:
        self._log.info(
            "handover.waiting",
            holder=head.writer.boot,
            host=head.writer.host,
            epoch=head.epoch,
            hint="a live holder seals first; one that shows no life is superseded after 5 s",
        )

    def hand_over(self) -> None:
        """A newcomer takes the repository: drain, seal, and leave it to that one."""
        self._leaving = True
        self._interrupted.set()

    async def _restore(self) -> None:
        self.brought_back = await self._persist(self._engine.bring_back)
        tell(self.brought_back, problems=self._problems, log=self._log)

    async def _configure(self) -> None:
        await self._persist(self._check_version)
        await self._persist(self._prepare_agent)
        # A restore may have taken long enough for a newcomer to give us up: two agents must not answer the same chat.
        await self._persist(self._engine.refresh)

    async def _launch(self) -> None:
        self._launched.set()
        self._start(self._keeper.run())
        self._start(self._saver.run())
        await self._keeper.wait_for(AgentState.HEALTHY)
        self._warming.stop()
        self._log.info("agent.ready", agent=self._runtime.name, page=self._page)

    async def _serve(self) -> None:
        await asyncio.Event().wait()

    async def _drain(self) -> None:
        self._deadline = self._clock.monotonic() + self._grace.total
        self._warming.stop()
        self._gave_up = self._keeper.status.state is AgentState.CRASH_LOOP
        self._saver.stop()
        self._start(self._hurry())
        if self._engine.ready and self._fence is None:
            self._start(self._save_at_once())
        await self._keeper.stop(self._deadline - self._grace.seal, urgent=self._stop.urgent)
        await self._after_drain()

    async def _seal(self) -> None:
        if self._deadline == float("inf"):
            self._deadline = self._clock.monotonic() + self._grace.total
            self._start(self._hurry())
        sealing = asyncio.ensure_future(self._seal_now())
        try:
            while not sealing.done() and (left := self._deadline - self._clock.monotonic()) > 0:
                # Short naps, since a second signal moves the deadline.
                await asyncio.wait((sealing,), timeout=min(left, 0.2))
            if not sealing.done():
                self._unsealed = self._unsealed or f"not done within {self._grace.total:g} s"
        finally:
            sealing.cancel()
            await asyncio.wait((sealing,))
        if not sealing.cancelled():
            sealing.result()
        if self._unsealed:
            self._log.error(
                "seal.incomplete",
                reason=self._unsealed,
                last_sequence=self._engine.head.sequence if self._engine.head else None,
                hint="the next life carries on from the last committed snapshot",
            )

    async def _seal_now(self) -> None:
        if self._fence is not None:
            await self._keep_aside()
            return
        if self._engine.ready:
            await self._take_final()
        self._end_background()
        if self._engine.head is not None and self._fence is None:
            await self._let_go()

    async def _let_go(self) -> None:
        try:
            await self._engine.release()
        except Fenced as error:
            self._fenced(error)
        except MoltinitError as error:
            # All is committed: the next life waits a few seconds for us, and goes on.
            self._log.warning("release.failed", code=error.code, error=error.message)

    # -- what the phases are made of

    async def _open_doors_soon(self) -> None:
        """The server is slow to import: not before the agent is on its way, unless that takes its time."""
        if await first(self._launched.wait(), self._clock.sleep(DOORS_SECONDS)) == 0:
            await self._clock.sleep(SPAWN_SECONDS)
        await self._open_doors()

    async def _persist(self, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        """Try until it works; what stands in the way is a problem for all to see."""
        pause = RETRY_LEAST
        shown: set[str] = set()
        while True:
            try:
                result = await attempt()
            except Fenced:
                raise
            except (MoltinitError, RuntimeFault, OSError) as error:
                self._failure = _as_error(error)
            else:
                self._failure = None
                for code in shown:
                    self._problems.clear(code)
                return result
            code = self._failure.code
            for old in shown - {code}:
                self._problems.clear(old)
            shown = {code}
            self._problems.report(code, self._failure.message, self._failure.hint)
            self._log.warning(
                f"{self.phase.value}.failed", code=code, error=self._failure.message, retry_in=round(pause, 1)
            )
            await self._clock.sleep(pause)
            pause = min(pause * 2, RETRY_MOST)

    async def _check_version(self) -> None:
        pinned = await self._engine.pin_before_upgrade()
        if pinned is not None:
            self._log.info("upgrade.pinned", sequence=pinned.sequence, agent_version=pinned.agent_version)

    async def _prepare_agent(self) -> None:
        sanitised = await asyncio.to_thread(self._runtime.sanitise)
        for note in sanitised.notes:
            self._log.warning("sanitise.note", note=note)
        report = await asyncio.to_thread(self._runtime.configure)
        for note in report.notes:
            self._log.warning("configure.note", note=note)
        self._log.info("configure.done", changed=list(report.changed), sanitised=list(sanitised.removed))

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        assert self._group is not None, "a phase runs within `run`"
        self._background.append(self._group.create_task(self._guarded(work)))

    async def _guarded(self, work: Coroutine[Any, Any, Any]) -> None:
        """Background work whose end must not go unnoticed."""
        try:
            await work
        except Fenced as error:
            self._fenced(error)
        except Exception as error:
            self._failed(error)

    def _fenced(self, error: Fenced) -> None:
        if self._fence is None:
            self._fence = error
            self._problems.report(error.code, error.message, error.hint)
            self._log.error("repository.fenced", error=error.message)
        self._interrupted.set()

    def _failed(self, error: Exception) -> None:
        if self._fault is None:
            self._fault = error
            self._problems.report("internal", f"moltinit itself failed: {error}", "please report it, with the log")
        self._log.error("lifecycle.fault", exc_info=error)
        self._interrupted.set()

    def _end_background(self) -> None:
        for task in self._background:
            task.cancel()
        self._background.clear()

    async def _hurry(self) -> None:
        """A second stop signal shortens what is left."""
        await self._stop.urgent.wait()
        self._deadline = min(self._deadline, self._clock.monotonic() + self._grace.urgent)
        self._log.warning("stop.urgent", seconds_left=round(self._deadline - self._clock.monotonic(), 1))

    async def _save_at_once(self) -> None:
        """Before waiting for a slow agent: whatever happens next, this much is kept."""
        with contextlib.suppress(MoltinitError):  # the final snapshot follows, and its failure is told
            await self._saver.save("drain")

    async def _take_final(self) -> None:
        pause, unread_again = RETRY_LEAST / 2, 0
        while True:
            self._unsealed = "the last snapshot is not committed"
            try:
                taken = await self._saver.save("final", consistent=True, final=True)
            except Fenced as error:
                self._fenced(error)
                await self._keep_aside()
                return
            except MoltinitError as error:
                self._unsealed = error.message
                self._log.warning("seal.failed", code=error.code, error=error.message, retry_in=pause)
                await self._clock.sleep(pause)
                pause = min(pause * 2, RETRY_MOST)
            else:
                self._unsealed = _what_is_missing(taken)
                if not taken.unread or unread_again == UNREAD_ATTEMPTS:
                    return
                # What is committed is not all there is; the repository is still held.
                unread_again += 1
                await self._clock.sleep(pause)

    async def _keep_aside(self) -> None:
        """Fenced: nothing may be committed, but nothing is thrown away either."""
        if not self._engine.ready:
            return
        key = await self._engine.rescue()
        self._log.warning("seal.rescued", key=key)

    def _exit_code(self) -> ExitCode:
        if self._fence is not None:
            return ExitCode.FENCED
        if self._fault is not None:
            return ExitCode.INTERNAL
        if self._unsealed:
            return ExitCode.SEAL_INCOMPLETE
        if self._failure is not None:
            return self._failure.exit_code
        if self.brought_back is None and bucket.CODE in self._problems:
            return ExitCode.BUCKET  # the stop came while the first request was still being tried
        return ExitCode.CRASH_LOOP if self._gave_up else ExitCode.OK

    # -- what an operator may ask for

    def snapshot_soon(self) -> None:
        """A snapshot, asked for by a signal: nobody waits for the answer."""
        if self.phase in (Phase.LAUNCH, Phase.SERVE):
            self._start(self._snapshot_by_signal())

    async def _snapshot_by_signal(self) -> None:
        try:
            await self.take_snapshot("signal")
        except Fenced:
            raise
        except MoltinitError as error:
            self._log.warning("snapshot.failed", code=error.code, error=error.message)

    async def take_snapshot(self, reason: str, note: str = "") -> Taken:
        """A snapshot now, of the agent held still where it lets itself be held."""
        self._must_be_serving("take a snapshot")
        return await self._perform(
            self._saver.save(reason, quiesced=self._keeper.status.state is AgentState.HEALTHY, force=True, note=note)
        )

    async def restore(self, wanted: int | str, path: str = "") -> SnapshotRecord:
        """Stop the agent, put an older snapshot or a rescued state in its place (or only a part of it), start it
        again."""
        self._must_be_serving("restore a snapshot")
        return await self._perform(self._restore_in_place(wanted, path))

    async def undo(self) -> SnapshotRecord:
        """Take back the last restore, in the same way."""
        self._must_be_serving("undo a restore")
        return await self._perform(self._restore_in_place(self._engine.before_last_restore().sequence, ""))

    async def _restore_in_place(self, wanted: int | str, path: str) -> SnapshotRecord:
        async with self._keeper.held_down():
            try:
                record = await self._engine.restore(wanted, path=path)
            except Exception:
                if not self._engine.ready:
                    await self._persist(self._engine.bring_back)
                    await self._prepare_agent()
                raise
            await self._prepare_agent()
        self._log.info("restore.in_place", restored=wanted, path=path, committed_as=record.sequence)
        return record

    def _must_be_serving(self, what: str) -> None:
        if self.phase not in (Phase.LAUNCH, Phase.SERVE):
            raise UsageError(f"cannot {what} in the phase {self.phase.value}", hint="wait until /readyz answers 200")

    async def _perform(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        try:
            return await work
        except Fenced as error:
            self._fenced(error)
            raise


def _what_is_missing(taken: Taken) -> str:
    """Why the last snapshot is not the whole of it; empty where it is."""
    if taken.shrunk:
        return f"the shrink guard kept it aside: {taken.shrunk}"
    if taken.unread:
        return f"{len(taken.unread)} files could not be read, among them {taken.unread[0]!r}; they are as saved before"
    return ""


def _as_error(error: MoltinitError | RuntimeFault | OSError) -> MoltinitError:
    if isinstance(error, MoltinitError):
        return error
    if isinstance(error, OSError):
        return DiskError(
            f"the disk: {error.strerror or error} ({error.filename or 'no name'})",
            hint="free disk space, or give MOLTINIT_HOME and MOLTINIT_AGENT_HOME places that can be written",
        )
    return AgentError(error.message, hint=error.hint)
