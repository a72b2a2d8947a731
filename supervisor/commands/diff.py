"""`moltinit diff`: what differs between two snapshots."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from supervisor.commands.context import load_settings, show_json
from supervisor.settings import Settings
from supervisor.units import format_size

SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def main(arguments: argparse.Namespace) -> int:
    """Reads the bucket only; works beside a running daemon."""
    changes = asyncio.run(_diff(load_settings(), arguments))
    if arguments.json:
        show_json({"changes": changes})
        return 0
    for change in changes:
        sizes = " -> ".join(format_size(size) for size in (change["before"], change["after"]) if size is not None)
        print(f"{SIGNS[change['what']]} {change['path']}  ({sizes})")
    counts = [sum(1 for change in changes if change["what"] == what) for what in SIGNS]
    print(f"{counts[0]} added, {counts[1]} removed, {counts[2]} changed")
    return 0


async def _diff(settings: Settings, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from supervisor.commands.bucket import open_bucket, read_head
    from supervisor.errors import UsageError
    from supervisor.snapshot.compare import compare
    from supervisor.snapshot.format import to_builtins
    from supervisor.snapshot.repository import find, newest

    async with open_bucket(settings) as store:
        repository, head = await read_head(store)
        latest = newest(head) if arguments.after is None else find(head, arguments.after)
        if latest is None:
            raise UsageError(f"{store.url} has no snapshot to compare with")
        old, new = await asyncio.gather(
            repository.load(head, find(head, arguments.before)), repository.load(head, latest)
        )
    return [to_builtins(change) for change in compare(old.tree, new.tree)]
