"""`moltinit restore`: a snapshot back in place, or beside it."""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from supervisor.commands.bucket import claimed, open_bucket, read_head
from supervisor.commands.context import load_settings, moment, progress, show_json
from supervisor.commands.daemon import find_daemon
from supervisor.errors import UsageError
from supervisor.settings import Settings
from supervisor.snapshot.compare import compare
from supervisor.snapshot.format import Head
from supervisor.snapshot.history import load_rescued
from supervisor.snapshot.repository import Repository, find, newest
from supervisor.snapshot.restore import Restorer
from supervisor.snapshot.rules import Classes, SkipRules
from supervisor.snapshot.tree import Tree, graft
from supervisor.units import format_size


def main(arguments: argparse.Namespace) -> int:
    """In place through the daemon where one runs here (it stops the agent meanwhile), else on the bare disk."""
    settings = load_settings()
    if arguments.dry_run:
        return _show(asyncio.run(_compare(settings, arguments)), arguments, "would restore")
    if arguments.to:
        return _show(asyncio.run(_beside(settings, arguments)), arguments, "restored")
    daemon = find_daemon(settings)
    if daemon is None:
        return _show(asyncio.run(_in_place(settings, arguments)), arguments, "restored")
    number = arguments.snapshot
    if number is None:
        raise UsageError(
            "the newest snapshot is what the running agent carries on from already",
            hint="name an older one: `moltinit snapshots` lists them",
        )
    record = daemon.post("/api/admin/restore", {"snapshot": number, "path": arguments.path})
    return _show({**record, "snapshot": number, "committed_as": record["sequence"]}, arguments, "restored")


def _show(result: dict[str, Any], arguments: argparse.Namespace, verb: str) -> int:
    if arguments.json:
        show_json(result)
        return 0
    print(
        f"{verb} snapshot {result['snapshot']} of {moment(result['taken_at'])}: {result['files']} files, "
        f"{format_size(result['bytes'])}" + (f" into {arguments.to}" if arguments.to else "")
    )
    if "added" in result:
        print(f"  {result['added']} files come back, {result['changed']} change, {result['removed']} go")
    if "committed_as" in result:
        print(f"  it is snapshot {result['committed_as']} now; the state before it is pinned")
    return 0


async def _compare(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:

    async with open_bucket(settings) as store:
        repository, head = await read_head(store)
        latest = newest(head)
        if latest is None:
            raise UsageError(f"{store.url} has no snapshot to restore")
        described, wanted = await _wanted(repository, head, arguments.snapshot)
        current = (await repository.load(head, latest)).tree
    tree = graft(current, wanted, arguments.path) if arguments.path else wanted
    changes = Counter(change.what for change in compare(current, tree))
    return {**described, **{what: changes[what] for what in ("added", "changed", "removed")}}


async def _wanted(repository: Repository, head: Head, wanted: int | str | None) -> tuple[dict[str, Any], Tree]:
    """What is to be restored: described, and its tree."""
    if isinstance(wanted, str):
        tree = (await load_rescued(repository, head, wanted)).tree
        return {"snapshot": wanted, "taken_at": 0.0, "files": tree.files, "bytes": tree.bytes}, tree
    record = newest(head) if wanted is None else find(head, wanted)
    if record is None:
        raise UsageError(f"{repository.store.url} has no snapshot to restore")
    described = {
        "snapshot": record.sequence,
        "taken_at": record.taken_at,
        "files": record.files,
        "bytes": record.bytes,
    }
    return described, (await repository.load(head, record)).tree


async def _beside(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:

    target = Path(arguments.to).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not an empty directory", hint="name one that is new or empty")
    async with open_bucket(settings) as store:
        repository, head = await read_head(store)
        described, tree = await _wanted(repository, head, arguments.snapshot)
        if arguments.path:
            tree = graft(Tree(), tree, arguments.path)
        with progress("restoring", quiet=arguments.json) as step:
            restorer = Restorer(store, target, rules=SkipRules(()), classes=Classes(()))
            await restorer.restore(tree, progress=step)
    return {**described, "files": tree.files, "bytes": tree.bytes}


async def _in_place(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:

    async with claimed(settings, takeover=arguments.takeover) as (engine, runtime):
        assert engine.head is not None, "claimed"
        latest = newest(engine.head)
        number = arguments.snapshot if arguments.snapshot is not None else (latest.sequence if latest else None)
        if number is None:
            raise UsageError("there is no snapshot to restore")
        with progress("restoring", quiet=arguments.json) as step:
            record = await engine.restore(number, path=arguments.path, progress=step)
        await asyncio.to_thread(runtime.sanitise)
    return {
        "snapshot": number,
        "committed_as": record.sequence,
        "taken_at": record.taken_at,
        "files": record.files,
        "bytes": record.bytes,
    }
