"""`moltinit forget`: drop a snapshot from the list."""

from __future__ import annotations

import argparse
import asyncio

from supervisor.commands.context import load_settings, show_json
from supervisor.commands.daemon import find_daemon
from supervisor.settings import Settings


def main(arguments: argparse.Namespace) -> int:
    """Through the daemon where one runs here, else with a claim of its own."""
    settings = load_settings()
    daemon = find_daemon(settings)
    if daemon:
        daemon.delete(f"/api/admin/snapshots/{arguments.snapshot}")
    else:
        asyncio.run(_here(settings, arguments))
    if arguments.json:
        show_json({"forgotten": arguments.snapshot})
    else:
        print(f"snapshot {arguments.snapshot} is off the list; `moltinit gc` deletes what only it referred to")
    return 0


async def _here(settings: Settings, arguments: argparse.Namespace) -> None:
    from supervisor.commands.bucket import only_claimed

    async with only_claimed(settings, takeover=arguments.takeover) as (engine, _):
        await engine.forget(arguments.snapshot)
