"""Garbage collection: what no retained snapshot and no rescued state refers to is deleted from the bucket.

Only the live writer collects, with no snapshot of its own under way. What is unreferenced once stays so: a writer
refers to nothing but what HEAD named when it claimed, and to what it stored itself since (docs/fencing.md). What is
young is left alone, for a fenced writer may be about to store its last state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from supervisor.errors import ObjectNotFound, RepositoryError, StoreUnavailable
from supervisor.snapshot import format as fmt
from supervisor.snapshot.claim import Claim
from supervisor.snapshot.format import Head
from supervisor.snapshot.repository import Repository
from supervisor.store.protocol import ObjectInfo

YOUNG_SECONDS = 3600.0
"""Objects younger than this stay. Ages are differences of the bucket's own times, so no clock has to agree with it."""

LOADS_IN_FLIGHT = 8
DELETES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Collected:
    """What was (or, in a rehearsal, would be) deleted, and what stays."""

    packs: int
    manifests: int
    bytes: int
    young: int
    kept_packs: int
    kept_bytes: int


class Collector:
    """Collects one repository; what a manifest refers to is remembered from one collection to the next."""

    def __init__(self, repository: Repository, *, young: float = YOUNG_SECONDS) -> None:
        self._repository = repository
        self._young = young
        self._packs_of: dict[str, frozenset[str]] = {}

    async def collect(
        self,
        claim: Claim,
        *,
        in_use: Iterable[str] = (),
        rehearse: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Collected:
        """Delete what is unreferenced and not young.

        Args:
            in_use: ids of packs that this writer may still refer to.
            rehearse: only say what would be deleted.

        Raises `Fenced`, store errors, and `RepositoryError` where a retained manifest cannot be read: what it refers
        to is not known then, and nothing is deleted.
        """
        store = self._repository.store
        packs = [info async for info in store.list(fmt.PACK_PREFIX)]
        manifests = [info async for info in store.list(fmt.MANIFEST_PREFIX)]
        head = await claim.refresh()
        now = (await store.stat(fmt.HEAD_KEY)).modified
        rescued = [info.key async for info in store.list(fmt.RESCUE_PREFIX)]
        retained = _manifests(head)
        used = set(in_use) | await self._used([*retained, *rescued], progress)
        keys = {fmt.pack_key(pack_id) for pack_id in used}
        dead = [info for info in packs if info.key not in keys]
        dead += [info for info in manifests if info.key not in retained]
        old = [info for info in dead if now - info.modified >= self._young]
        if not rehearse:
            await self._delete(claim, old, rescued)
        kept = [info for info in packs if info.key in keys]
        gone_packs = [info for info in old if info.key.startswith(fmt.PACK_PREFIX)]
        return Collected(
            packs=len(gone_packs),
            manifests=len(old) - len(gone_packs),
            bytes=sum(info.size for info in old),
            young=len(dead) - len(old),
            kept_packs=len(kept),
            kept_bytes=sum(info.size for info in kept),
        )

    async def _used(self, keys: list[str], progress: Callable[[int, int], None]) -> set[str]:
        slots = asyncio.Semaphore(LOADS_IN_FLIGHT)
        self._packs_of = {key: packs for key, packs in self._packs_of.items() if key in set(keys)}
        done = 0

        async def load(key: str) -> None:
            nonlocal done
            async with slots:
                if key not in self._packs_of:
                    self._packs_of[key] = await self._read(key)
            done += 1
            progress(done, len(keys))

        await asyncio.gather(*(load(key) for key in keys))
        return {pack for packs in self._packs_of.values() for pack in packs}

    async def _read(self, key: str) -> frozenset[str]:
        try:
            data = (await self._repository.fetch(key, fmt.MAX_STORED_MANIFEST_BYTES)).data
        except ObjectNotFound as error:
            raise RepositoryError(
                f"nothing is collected: {key} is retained and missing, so what it refers to is not known",
                hint="`moltinit verify` tells which snapshot it is; `moltinit forget` drops that from the list",
            ) from error
        manifest = await asyncio.to_thread(fmt.decode_manifest, data, key)
        return frozenset(row.id for row in manifest.packs)

    async def _delete(self, claim: Claim, old: list[ObjectInfo], rescued: list[str]) -> None:
        store = self._repository.store
        for start in range(0, len(old), DELETES_AT_ONCE):
            # Somebody may have stored a last state meanwhile that refers to what looked dead: next time, then.
            if [info.key async for info in store.list(fmt.RESCUE_PREFIX)] != rescued:
                raise StoreUnavailable(
                    "a state was rescued while the bucket was being looked through; nothing more is deleted now",
                    hint="it is tried again by itself",
                )
            await claim.refresh()  # a writer that was superseded meanwhile deletes nothing any more
            await store.delete([info.key for info in old[start : start + DELETES_AT_ONCE]])


def _manifests(head: Head) -> set[str]:
    keys = {record.manifest for record in head.snapshots}
    return keys | {record.base for record in head.snapshots if record.base}
