"""`moltinit restore`: a snapshot back in place, or beside it."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from supervisor.commands.context import load_settings, moment, progress, show_json
from supervisor.commands.daemon import find_daemon
from supervisor.errors import UsageError
from supervisor.settings import Settings
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
    record = daemon.post("/api/admin/restore", {"snapshot": number})
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
    from supervisor.commands.bucket import open_bucket, read_head
    from supervisor.snapshot.repository import find, newest

    async with open_bucket(settings) as store:
        repository, head = await read_head(store)
        latest = newest(head)
        if latest is None:
            raise UsageError(f"{store.url} has no snapshot to restore")
        record = latest if arguments.snapshot is None else find(head, arguments.snapshot)
        wanted = (await repository.load(head, record)).tree.entries
        current = (await repository.load(head, latest)).tree.entries
    changed = sum(1 for path in wanted.keys() & current.keys() if not wanted[path].same_as(current[path]))
    return {
        "snapshot": record.sequence,
        "taken_at": record.taken_at,
        "files": record.files,
        "bytes": record.bytes,
        "added": len(wanted.keys() - current.keys()),
        "changed": changed,
        "removed": len(current.keys() - wanted.keys()),
    }


async def _beside(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from supervisor.commands.bucket import open_bucket, read_head
    from supervisor.snapshot.repository import find, newest
    from supervisor.snapshot.restore import Restorer
    from supervisor.snapshot.rules import Classes, SkipRules

    target = Path(arguments.to).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not an empty directory", hint="name one that is new or empty")
    async with open_bucket(settings) as store:
        repository, head = await read_head(store)
        record = newest(head) if arguments.snapshot is None else find(head, arguments.snapshot)
        if record is None:
            raise UsageError(f"{store.url} has no snapshot to restore")
        loaded = await repository.load(head, record)
        with progress("restoring", quiet=arguments.json) as step:
            restorer = Restorer(store, target, rules=SkipRules(()), classes=Classes(()))
            await restorer.restore(loaded.tree, progress=step)
    return {"snapshot": record.sequence, "taken_at": record.taken_at, "files": record.files, "bytes": record.bytes}


async def _in_place(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from supervisor.commands.bucket import claimed
    from supervisor.snapshot.repository import newest

    async with claimed(settings, takeover=arguments.takeover) as (engine, runtime):
        assert engine.head is not None, "claimed"
        latest = newest(engine.head)
        number = arguments.snapshot if arguments.snapshot is not None else (latest.sequence if latest else None)
        if number is None:
            raise UsageError("there is no snapshot to restore")
        with progress("restoring", quiet=arguments.json) as step:
            record = await engine.restore(number, step)
        await asyncio.to_thread(runtime.sanitise)
    return {
        "snapshot": number,
        "committed_as": record.sequence,
        "taken_at": record.taken_at,
        "files": record.files,
        "bytes": record.bytes,
    }
