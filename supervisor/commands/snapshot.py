"""`moltinit snapshot`: take one now."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from supervisor.commands.context import load_settings, progress, show_json
from supervisor.commands.daemon import find_daemon
from supervisor.settings import Settings
from supervisor.units import format_size


def main(arguments: argparse.Namespace) -> int:
    """Through the daemon; without one, of the tree that lies on this disk."""
    settings = load_settings()
    daemon = find_daemon(settings)
    record = (
        daemon.post("/api/admin/snapshots", {"note": arguments.note})
        if daemon
        else asyncio.run(_without_daemon(settings, arguments))
    )
    if arguments.json:
        show_json(record)
    else:
        print(f"snapshot {record['sequence']}: {record['files']} files, {format_size(record['bytes'])}")
    return 0


async def _without_daemon(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from supervisor.commands.bucket import claimed
    from supervisor.control import snapshot_document

    async with claimed(settings, takeover=arguments.takeover) as (engine, _):
        with progress("reading", quiet=arguments.json) as step:
            taken = await engine.take("operator", consistent=True, force=True, note=arguments.note, progress=step)
    assert taken.record is not None, "a forced snapshot is always committed"
    return snapshot_document(taken.record)
