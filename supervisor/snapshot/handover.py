"""From one writer to the next without losing the last seconds of the first.

A newcomer that finds the repository held asks for it in HEAD, and waits: for a live holder until it has sealed and
released, for a dead one (which does not acknowledge) a few seconds. Only durations on the newcomer's own clock are
measured; the claim itself is what decides (docs/fencing.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from supervisor.errors import PreconditionFailed
from supervisor.snapshot.claim import Claim, Identity, claim_over
from supervisor.snapshot.format import HandOver, Head, replace_head
from supervisor.snapshot.repository import HELD, HeadVersion, Repository

POLL_SECONDS = 0.5
"""Between two looks at HEAD while waiting; each is one cheap read."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a newcomer waits, in seconds.

    Args:
        acknowledge: for a sign of life; a holder looks at HEAD every 2 s.
        release: for a holder that has acknowledged: its grace to drain and seal, and a little more.
    """

    acknowledge: float = 5.0
    release: float = 30.0


NO_PATIENCE = Patience(0.0, 0.0)
"""Claim at once, whoever holds it."""


async def take_over(
    repository: Repository,
    identity: Identity,
    patience: Patience,
    *,
    waiting: Callable[[Head], None] = lambda head: None,
) -> Claim:
    """Become the only writer, after the one before has let go or has shown no life. Raises store errors.

    Args:
        waiting: called once for each holder that is waited for, with HEAD as it is then.
    """
    wait: _Wait | None = None
    seen = await repository.read()
    while True:
        if seen is not None and _is_held_elsewhere(seen.head, identity):
            if wait is None or wait.epoch != seen.head.epoch:
                wait = _Wait(seen.head.epoch, repository, patience)
                waiting(seen.head)
            if not wait.is_over(seen.head):
                seen = await _ask(repository, seen, identity) or await _look_again(repository, seen)
                continue
        try:
            return await claim_over(repository, seen, identity)
        except PreconditionFailed:
            seen = await repository.read()


def _is_held_elsewhere(head: Head, identity: Identity) -> bool:
    """A holder on this very disk is dead: its lock on the disk is ours now."""
    same_disk = head.writer.home == identity.home and head.writer.host == identity.host
    return head.state == HELD and not same_disk


class _Wait:
    """The wait for one holder."""

    def __init__(self, epoch: int, repository: Repository, patience: Patience) -> None:
        self.epoch = epoch
        self._clock = repository.clock
        self._patience = patience
        self._since = self._clock.monotonic()
        self._acknowledged = False

    def is_over(self, head: Head) -> bool:
        if not self._acknowledged and head.handover is not None and head.handover.acknowledged:
            self._acknowledged = True
            self._since = self._clock.monotonic()
        limit = self._patience.release if self._acknowledged else self._patience.acknowledge
        return self._clock.monotonic() - self._since >= limit


async def _ask(repository: Repository, seen: HeadVersion, identity: Identity) -> HeadVersion | None:
    """Put the request into HEAD, unless one is there already (whoever made it: the holder leaves for either)."""
    if seen.head.handover is not None:
        return None
    request = HandOver(boot=identity.boot, requested_at=repository.clock.time())
    try:
        return await repository.write(replace_head(seen.head, handover=request), seen)
    except PreconditionFailed:
        return None


async def _look_again(repository: Repository, seen: HeadVersion) -> HeadVersion | None:
    await repository.clock.sleep(POLL_SECONDS)
    if await repository.head_etag() == seen.etag:
        return seen
    return await repository.read()
