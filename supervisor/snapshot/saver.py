"""Saving while the agent lives: the watcher and the schedule that decide when, the look-out for another writer, and
the account of how it went (problems, metrics, log)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from agent_runtime.contract import Stillness
from supervisor.clock import Clock
from supervisor.concurrency import task_group
from supervisor.errors import MoltinitError, StoreError
from supervisor.health.metrics import Metrics
from supervisor.health.problems import Problems
from supervisor.snapshot.engine import Engine
from supervisor.snapshot.rules import SkipRules
from supervisor.snapshot.schedule import Pace, Schedule
from supervisor.snapshot.snapshotter import Taken
from supervisor.snapshot.watch import watch

POLL_SECONDS = 2.0
"""Between two looks at HEAD: how soon a claim by another writer, or its request to hand over, is noticed."""

TEND_SECONDS = 600.0
"""Between two looks at whether a garbage collection is due; a short life leaves it to a longer one."""

UNREAD_SECONDS = 60.0
"""What could not be read for so long is told; a database that is busy for a moment is saved with the next snapshot."""

QUIESCE_SECONDS = 10.0
"""How long the agent is held still at most for a consistent snapshot; it takes a quarter of a second as a rule."""


class Saver:
    """Keeps the bucket up to date with the agent's tree.

    Args:
        root: the tree's root, and what of it is watched is what `rules` do not skip.
        quiesce: holds the agent still for at most so many seconds; what it yields says whether it is.
        hand_over: called when a newcomer has asked for the repository, and was told that this daemon leaves.
        paused: while it says so, garbage is not collected by schedule.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        root: Path,
        rules: SkipRules,
        pace: Pace,
        clock: Clock,
        problems: Problems,
        metrics: Metrics,
        log: FilteringBoundLogger,
        quiesce: Callable[[float], AbstractAsyncContextManager[Stillness]],
        hand_over: Callable[[], None] = lambda: None,
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self._engine = engine
        self._root = root
        self._rules = rules
        self._clock = clock
        self._problems = problems
        self._metrics = metrics
        self._log = log
        self._quiesce = quiesce
        self._hand_over = hand_over
        self._paused = paused
        self._hint = asyncio.Event()
        self._stopped = False
        self._unread_since: dict[str, float] = {}
        self._schedule = Schedule(
            pace=pace,
            clock=clock,
            hint=self._hint,
            changed=engine.changed,
            take=self._on_schedule,
            failed=self._failed,
            succeeded=lambda: self._problems.clear("snapshot-failed"),
        )

    @property
    def pending(self) -> bool:
        """Is there something that is not committed yet, as far as is known?"""
        return self._schedule.pending or self._hint.is_set()

    async def run(self) -> None:
        """Until it is cancelled. Raises `Fenced`."""
        async with task_group() as group:
            group.create_task(watch(self._root, self._rules, self._hint, clock=self._clock, failed=self._cannot_watch))
            group.create_task(self._schedule.run())
            group.create_task(self._look_out())
            group.create_task(self._tend())

    def stop(self) -> None:
        """Begin no snapshot any more by schedule; one that is being taken is not cut short."""
        self._stopped = True

    async def save(
        self,
        reason: str,
        *,
        consistent: bool = False,
        quiesced: bool = False,
        force: bool = False,
        compact: bool = False,
        final: bool = False,
        note: str = "",
    ) -> Taken:
        """Take a snapshot now.

        Args:
            consistent: the agent is down.
            quiesced: hold the agent still meanwhile, where it lets itself be held.
            force: commit even if nothing changed.
            compact: there is time to store scattered content anew.
            final: let go of the repository with it.

        Raises as `Engine.take` does.
        """
        quiesce = self._quiesce(QUIESCE_SECONDS) if quiesced else None
        try:
            taken = await self._engine.take(
                reason,
                quiesce=quiesce,
                consistent=consistent,
                check_databases=consistent,
                force=force,
                compact=compact,
                release=final,
                note=note,
            )
        except MoltinitError:
            self._metrics.snapshot_failed(reason)
            raise
        self._account(reason, taken)
        return taken

    async def _on_schedule(self, consistent: bool) -> float:
        if self._stopped:
            return 0.0
        taken = await self.save("change", quiesced=consistent, compact=True)
        return taken.capture_seconds

    async def _look_out(self) -> None:
        while True:
            await self._clock.sleep(POLL_SECONDS)
            try:
                head = await self._engine.refresh()
                if head.handover is not None and not self._stopped:
                    await self._engine.acknowledge()
                    self._log.info("handover.acknowledged", newcomer=head.handover.boot)
                    self._hand_over()
            except StoreError as error:
                self._log.debug("bucket.poll_failed", code=error.code, error=error.message)
            except MoltinitError as error:
                if error.code == "fenced":
                    raise
                self._problems.report(error.code, error.message, error.hint)

    async def _tend(self) -> None:
        while True:
            await self._clock.sleep(TEND_SECONDS)
            if self._stopped or self._paused() or not self._engine.collection_is_due():
                continue
            try:
                collected = await self._engine.collect()
            except MoltinitError as error:
                if error.code == "fenced":
                    raise
                self._problems.report("collection-failed", error.message, error.hint)
            else:
                self._problems.clear("collection-failed")
                self._log.info(
                    "bucket.collected",
                    packs=collected.packs,
                    manifests=collected.manifests,
                    bytes=collected.bytes,
                    kept_bytes=collected.kept_bytes,
                )

    def _account(self, reason: str, taken: Taken) -> None:
        self._tell_unread(taken)
        record = taken.record
        if record is None:
            return
        self._metrics.snapshot_taken(
            reason,
            seconds=taken.seconds,
            read_bytes=taken.read_bytes,
            uploaded_bytes=taken.uploaded_bytes,
            sequence=record.sequence,
            committed_at=record.committed_at,
        )
        self._log.info(
            "snapshot.committed",
            sequence=record.sequence,
            reason=reason,
            files=record.files,
            bytes=record.bytes,
            uploaded=taken.uploaded_bytes,
            seconds=round(taken.seconds, 3),
            consistent=record.consistent,
            torn=record.torn,
        )
        if taken.shrunk:
            self._problems.report(
                "snapshot-shrunk",
                f"snapshot {record.sequence} is kept aside: {taken.shrunk}",
                "the next life restores the one before; if the loss is meant, restore this snapshot by its number",
            )
        else:
            self._problems.clear("snapshot-shrunk")
        if taken.damaged_databases:
            self._problems.report(
                "database-damaged",
                f"the integrity check of {', '.join(taken.damaged_databases)} failed",
                "restore a snapshot from before the damage: `moltinit snapshots`",
            )

    def _tell_unread(self, taken: Taken) -> None:
        now = self._clock.monotonic()
        self._unread_since = {path: self._unread_since.get(path, now) for path in taken.unread}
        overdue = [path for path, since in self._unread_since.items() if now - since >= UNREAD_SECONDS]
        if not overdue:
            self._problems.clear("files-unread")
            return
        names = ", ".join(repr(path) for path in overdue[:3]) + (", ..." if len(overdue) > 3 else "")
        self._problems.report(
            "files-unread",
            f"{len(overdue)} files cannot be saved: {names}",
            "they may be locked, without read permission, larger than 64 GiB (together: 256 GiB) or nested too deep, "
            "or the disk full; "
            "their last saved state is kept",
        )

    def _failed(self, error: MoltinitError) -> None:
        self._problems.report("snapshot-failed", error.message, error.hint)
        self._log.warning("snapshot.failed", code=error.code, error=error.message)

    def _cannot_watch(self, error: Exception) -> None:
        self._log.warning("snapshot.watch_failed", error=str(error), fallback="the timed walk")
