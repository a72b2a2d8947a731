"""`moltinit pin`: keep a snapshot for good, or let go of it; change its note."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from supervisor.commands.context import load_settings, show_json
from supervisor.commands.daemon import find_daemon
from supervisor.settings import Settings


def main(arguments: argparse.Namespace) -> int:
    """Through the daemon where one runs here, else with a claim of its own."""
    settings = load_settings()
    daemon = find_daemon(settings)
    pin = "" if arguments.remove else arguments.name
    if daemon:
        changes = {"pin": pin} | ({"note": arguments.note} if arguments.note is not None else {})
        record = daemon.patch(f"/api/admin/snapshots/{arguments.snapshot}", changes)
    else:
        record = asyncio.run(_here(settings, arguments, pin))
    if arguments.json:
        show_json(record)
    elif record["pin"]:
        print(f"snapshot {record['sequence']} is kept: {record['pin']}")
    else:
        print(f"snapshot {record['sequence']} is not pinned")
    return 0


async def _here(settings: Settings, arguments: argparse.Namespace, pin: str) -> dict[str, Any]:
    from supervisor.commands.bucket import only_claimed
    from supervisor.control import snapshot_document

    async with only_claimed(settings, takeover=arguments.takeover) as (engine, _):
        return snapshot_document(await engine.annotate(arguments.snapshot, pin=pin, note=arguments.note))
