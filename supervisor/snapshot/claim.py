"""The right to commit: got by raising HEAD's epoch, lost when somebody else does.

Every change is a compare-and-swap on the ETag last seen, so a writer whose epoch has passed can commit nothing
(docs/fencing.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from supervisor.errors import Fenced, MoltinitError, PreconditionFailed, RepositoryError, StoreUnavailable
from supervisor.snapshot import format as fmt
from supervisor.snapshot.format import (
    Head,
    SnapshotRecord,
    Writer,
    replace_handover,
    replace_head,
    replace_record,
)
from supervisor.snapshot.repository import HELD, RELEASED, HeadVersion, Repository
from supervisor.snapshot.retention import Retention

CAS_ATTEMPTS = 8
"""How often a change of HEAD is tried again because something else in HEAD changed; each round reads it anew."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this daemon is: `boot` is unique to one life, `home` to one local disk."""

    boot: str
    home: str
    host: str
    agent: str
    agent_version: str


class HeadMoved(MoltinitError):
    """HEAD went on under a snapshot that was described before; the next attempt takes that into account."""

    code = "head-moved"


async def claim_over(repository: Repository, seen: HeadVersion | None, identity: Identity) -> Claim:
    """Become the only writer: the epoch goes up by one, and with it every earlier writer is fenced. Raises
    `PreconditionFailed` where HEAD is not what was seen any more, and `UnsafeBucket`."""
    head = seen.head if seen else repository.begin()
    writer = Writer(
        boot=identity.boot,
        home=identity.home,
        host=identity.host,
        agent=identity.agent,
        agent_version=identity.agent_version,
        claimed_at=repository.clock.time(),
    )
    claimed = replace_head(head, epoch=head.epoch + 1, state=HELD, writer=writer, handover=None)
    version = await repository.write(claimed, seen)
    if version.head.sequence == 0:  # nothing can be lost yet
        await repository.prove_conditional_writes(version)
    return Claim(repository, identity, version)


async def claim_now(repository: Repository, identity: Identity) -> Claim:
    """Become the only writer without asking the one before."""
    for _ in range(CAS_ATTEMPTS):
        try:
            return await claim_over(repository, await repository.read(), identity)
        except PreconditionFailed:
            continue
    raise StoreUnavailable(
        f"{repository.store.url}: {fmt.HEAD_KEY} changed under each of {CAS_ATTEMPTS} attempts to claim it",
        hint="several daemons start on one bucket and prefix; give each agent its own prefix",
    )


class Claim:
    """The right to commit, until another writer claims. One task at a time may change HEAD."""

    def __init__(self, repository: Repository, identity: Identity, version: HeadVersion) -> None:
        self._repository = repository
        self._identity = identity
        self._version = version
        self._epoch = version.head.epoch
        self._lock = asyncio.Lock()

    @property
    def head(self) -> Head:
        """HEAD as last seen or written."""
        return self._version.head

    @property
    def epoch(self) -> int:
        """The epoch of this claim."""
        return self._epoch

    async def refresh(self) -> Head:
        """Look at HEAD, in one cheap request where it has not changed. Raises `Fenced` where another writer has
        claimed it since."""
        async with self._lock:
            if await self._repository.head_etag() == self._version.etag:
                return self._version.head
            return await self._read()

    async def commit(self, record: SnapshotRecord, retention: Retention, *, release: bool = False) -> Head:
        """Make a snapshot part of the history; the packs and the manifest must be stored already. With `release`, let
        go of the repository in the same step.

        Doing it twice is doing it once, so an unknown outcome (`StoreUnavailable`) is answered by trying again.
        Raises `Fenced`, and `HeadMoved` where an earlier commit that seemed to have failed went through.
        """

        def change(head: Head) -> Head | None:
            if any(known.manifest == record.manifest for known in head.snapshots):
                return None
            if head.sequence >= record.sequence:
                raise HeadMoved(f"snapshot {record.sequence} was described before HEAD reached {head.sequence}")
            stamped = replace_record(record, committed_at=self._repository.clock.time())
            return replace_head(
                head,
                sequence=record.sequence,
                state=RELEASED if release else head.state,
                handover=None if release else head.handover,
                snapshots=retention.apply([*head.snapshots, stamped], now=stamped.committed_at),
            )

        return await self.update(change)

    async def acknowledge(self) -> None:
        """Tell the newcomer that asked for the repository that this writer is alive and on its way out. Raises
        `Fenced`."""

        def change(head: Head) -> Head | None:
            if head.handover is None or head.handover.acknowledged:
                return None
            return replace_head(head, handover=replace_handover(head.handover, acknowledged=True))

        await self.update(change)

    async def release(self) -> None:
        """Let go, so that the next life need not wait. Raises `Fenced`."""

        def change(head: Head) -> Head | None:
            return None if head.state == RELEASED else replace_head(head, state=RELEASED, handover=None)

        await self.update(change)

    async def update(self, change: Callable[[Head], Head | None]) -> Head:
        """Change HEAD; `change` returns the new HEAD, or None where nothing is to be changed. It may be called more
        than once, each time with what HEAD says then. Raises `Fenced`."""
        async with self._lock:
            for _ in range(CAS_ATTEMPTS):
                changed = change(self._version.head)
                if changed is None:
                    return self._version.head
                try:
                    self._version = await self._repository.write(changed, self._version)
                except PreconditionFailed:
                    await self._read(made=change)
                    continue
                return self._version.head
        raise StoreUnavailable(f"{fmt.HEAD_KEY} changed under each of {CAS_ATTEMPTS} attempts to change it")

    async def _read(self, made: Callable[[Head], Head | None] | None = None) -> Head:
        """HEAD as it is now; with `made`, a change whose answer may be what was lost."""
        seen = await self._repository.read()
        if seen is None:
            raise RepositoryError(
                f"{fmt.HEAD_KEY} is gone from {self._repository.store.url} while this daemon holds it",
                hint="somebody deleted it; nothing is written until the daemon is started again",
            )
        head = seen.head
        if head.epoch != self._epoch or head.writer.boot != self._identity.boot:
            kept = made is not None and _went_through(made, head)
            raise Fenced(
                f"epoch {self._epoch} was superseded by epoch {head.epoch}, claimed by {head.writer.host or 'another'}"
                f" (boot {head.writer.boot})" + (", after the last commit went through" if kept else ""),
                hint="another VM runs this agent now; what could not be committed is kept under rescue/",
            )
        self._version = seen
        return head


def _went_through(change: Callable[[Head], Head | None], head: Head) -> bool:
    try:
        return change(head) is None
    except HeadMoved:
        return False
