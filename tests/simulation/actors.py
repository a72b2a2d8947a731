"""Supervisors that live, are killed and frozen, and a history of what each of them was told.

Only the disk is left out: trees are made up in memory. Claiming, handing over, committing, retention, rescue and
collection are the real thing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from random import Random

from supervisor.concurrency import task_group
from supervisor.errors import Fenced, MoltinitError
from supervisor.snapshot import format as fmt
from supervisor.snapshot.claim import Claim, HeadMoved, Identity
from supervisor.snapshot.collect import Collector
from supervisor.snapshot.format import SnapshotRecord
from supervisor.snapshot.handover import Patience, take_over
from supervisor.snapshot.pack import BlobIndex, PackBuilder, resolve
from supervisor.snapshot.repository import Repository, newest
from supervisor.snapshot.retention import Retention
from supervisor.snapshot.tree import Entry, Pack, Tree, whole_manifest
from supervisor.store.retry import RetryingStore, RetryPolicy
from tests.simulation.loop import LoopClock
from tests.simulation.world import Judge, Network, Weather

YOUNG = 60.0
"""Seconds; histories are shorter than real ones."""
RETENTION = Retention(last=3, hourly=1, daily=1, weekly=1)


class Supervisor:
    """One life after another on one machine."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self._world = world
        self._dice = Random(world.dice.random())
        self.network = Network(world.bucket, Random(world.dice.random()), world.weather)
        self._lives = count(1)

    async def live(self) -> None:
        """One life, from the claim to its end, whichever that is. Cancel it to kill it."""
        clock = LoopClock()
        store = RetryingStore(self.network, clock, self._dice, RetryPolicy(deadline=8.0, attempt=4.0))
        repository = Repository(store, clock, self._world.new_id)
        boot = f"{self.name}-{next(self._lives)}"
        identity = Identity(boot, self._world.new_id(), boot, "sim", "1")
        try:
            claim = await take_over(repository, identity, Patience(5.0, 20.0))
            life = _Life(self._world, self._dice, repository, store, claim)
            try:
                await life.carry_on()
                await life.write()
            except Fenced:
                await life.rescue()
        except MoltinitError as error:
            self._world.trace.append(f"{boot} ended: {error.code}")


class _Life:
    def __init__(self, world: World, dice: Random, repository: Repository, store: RetryingStore, claim: Claim) -> None:
        self._world = world
        self._dice = dice
        self._repository = repository
        self._store = store
        self._claim = claim
        self._index = BlobIndex()
        self._tree = Tree()
        self._collector = Collector(repository, young=YOUNG)
        self._turn = asyncio.Lock()
        self._leaving = False

    async def carry_on(self) -> None:
        """What a restore brings is exactly some committed snapshot, and the newest that this claim knows of."""
        record = newest(self._claim.head)
        if record is None:
            return
        loaded = await self._repository.load(self._claim.head, record)
        self._tree = loaded.tree
        self._world.restored(record, loaded.tree)
        for blob in loaded.tree.blobs():
            self._index.add(blob)

    async def write(self) -> None:
        async with task_group() as group:
            looking = group.create_task(self._look_out())
            for _ in range(self._dice.randrange(2, 12)):
                await asyncio.sleep(self._dice.random() * 6)
                if self._leaving:
                    break
                await self._try(self._collect if self._dice.random() < 0.2 else self._snapshot)
            looking.cancel()
        if self._dice.random() < 0.8 or self._leaving:
            await self._try(lambda: self._snapshot(release=True))

    async def _try(self, work: Callable[[], object]) -> None:
        try:
            async with self._turn:
                await work()  # type: ignore[misc]
        except Fenced:
            raise
        except MoltinitError as error:
            self._world.trace.append(f"{self._claim.epoch} failed: {error.code}")

    async def _look_out(self) -> None:
        while True:
            await asyncio.sleep(2.0)
            try:
                if (await self._claim.refresh()).handover is not None:
                    await self._claim.acknowledge()
                    self._leaving = True
            except Fenced:
                raise
            except MoltinitError:
                continue

    async def _store_tree(self) -> Tree:
        """Some files are new, some are gone; what the bucket has is referred to, as the engine does."""
        packs: list[tuple[Pack, bytes]] = []
        builder = PackBuilder(self._index, self._world.new_id, lambda pack, data: packs.append((pack, data)))
        entries = dict(self._tree.entries)
        places = {}
        for _ in range(self._dice.randrange(1, 4)):
            path = f"f{self._dice.randrange(6)}"
            places[path] = builder.add(b"content %d" % self._dice.randrange(40))
        builder.finish()
        for path, place in places.items():
            entries[path] = Entry(path, fmt.KIND_FILE, 0o600, 0, (resolve(place),))
        if self._dice.random() < 0.3:
            entries.pop(self._dice.choice(sorted(entries)))
        for pack, data in packs:
            await self._store.put(fmt.pack_key(pack.id), data)
        return Tree(dict(sorted(entries.items())))

    async def _snapshot(self, *, release: bool = False) -> None:
        tree = await self._store_tree()
        head = self._claim.head
        sequence = head.sequence + 1
        key = fmt.manifest_key(sequence, self._claim.epoch, self._world.new_id())
        manifest = whole_manifest(tree, repository=head.repository, sequence=sequence, epoch=self._claim.epoch)
        await self._store.put(key, fmt.encode_manifest(manifest))
        record = SnapshotRecord(
            sequence=sequence, epoch=self._claim.epoch, manifest=key, taken_at=LoopClock().time(), files=tree.files
        )
        self._world.trees[key] = tree
        try:
            await self._claim.commit(record, RETENTION, release=release)
        except HeadMoved:
            return
        self._world.acknowledged.append(key)
        self._tree = tree
        for blob in tree.blobs():
            self._index.add(blob)

    async def _collect(self) -> None:
        await self._collector.collect(self._claim, in_use=self._index.packs())

    async def rescue(self) -> None:
        """As the engine does: looked at before the manifest is written, and once more after."""
        tree = await self._store_tree()
        if await self._have_vanished(tree):
            tree = await self._store_anew()
        key = await self._write_rescue(tree)
        if await self._have_vanished(tree):
            await self._write_rescue(await self._store_anew())
            await self._store.delete([key])

    async def _have_vanished(self, tree: Tree) -> bool:
        there = {info.key async for info in self._store.list(fmt.PACK_PREFIX)}
        return any(fmt.pack_key(blob.frame.pack.id) not in there for blob in tree.blobs())

    async def _store_anew(self) -> Tree:
        self._index = BlobIndex()
        self._tree = Tree()
        return await self._store_tree()

    async def _write_rescue(self, tree: Tree) -> str:
        head, epoch = self._claim.head, self._claim.epoch
        manifest = whole_manifest(tree, repository=head.repository, sequence=head.sequence + 1, epoch=epoch)
        key = fmt.manifest_key(head.sequence + 1, epoch, self._world.new_id(), prefix=fmt.RESCUE_PREFIX)
        await self._store.put(key, fmt.encode_manifest(manifest))
        return key


class World:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.trace: list[str] = []
        self.bucket = Judge(self.trace)
        self.weather = Weather(
            fail=self.dice.random() * 0.15,
            lose=self.dice.random() * 0.15,
            twice=self.dice.random() * 0.1,
            slow=self.dice.choice((0.1, 1.0, 5.0)),
        )
        self.trees: dict[str, Tree] = {}
        self.acknowledged: list[str] = []
        self._numbers = count(1)

    def new_id(self) -> str:
        return f"{next(self._numbers):016d}"

    def restored(self, record: SnapshotRecord, tree: Tree) -> None:
        """What a restore brought must be what was committed under this name."""
        assert record.manifest in self.bucket.committed
        assert tree.same_as(self.trees[record.manifest])

    async def run(self, supervisors: int = 3, seconds: float = 400.0) -> None:
        """Let them live, kill and freeze some; then the weather clears, and one more must carry on."""
        actors = [Supervisor(f"vm{number}", self) for number in range(supervisors)]
        ends = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(self._host(actor, ends) for actor in actors))
        self.weather.fail = self.weather.lose = self.weather.twice = self.weather.slow = 0.0
        await Supervisor("last", self).live()
        assert set(self.acknowledged) <= self.bucket.committed.keys(), "what was acknowledged was committed"
        assert self.bucket.head is not None
        self.bucket.everything_is_whole()

    async def _host(self, actor: Supervisor, ends: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < ends:
            await asyncio.sleep(self.dice.random() * 20)
            life = asyncio.create_task(actor.live())
            fate = self.dice.random()
            if fate < 0.3:
                await asyncio.wait((life,), timeout=self.dice.random() * 30)
                life.cancel()
            elif fate < 0.5:
                await asyncio.wait((life,), timeout=self.dice.random() * 20)
                actor.network.frozen_until = loop.time() + self.dice.choice((3, 8, 40, 300))
            await asyncio.gather(life, return_exceptions=True)
            if not life.cancelled() and (error := life.exception()) is not None:
                raise error
