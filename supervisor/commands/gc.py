"""`moltinit gc`: delete from the bucket what no snapshot refers to."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from supervisor.commands.context import load_settings, progress, show_json
from supervisor.commands.daemon import find_daemon
from supervisor.settings import Settings
from supervisor.units import format_size


def main(arguments: argparse.Namespace) -> int:
    """Through the daemon where one runs here (only the writer may collect), else with a claim of its own."""
    settings = load_settings()
    daemon = find_daemon(settings)
    result = (
        daemon.post("/api/admin/gc", {"dry_run": arguments.dry_run})
        if daemon
        else asyncio.run(_here(settings, arguments))
    )
    if arguments.json:
        show_json(result)
        return 0
    verb = "would delete" if arguments.dry_run else "deleted"
    print(f"{verb} {result['packs']} packs and {result['manifests']} manifests, {format_size(result['bytes'])}")
    print(f"  {result['kept_packs']} packs stay, {format_size(result['kept_bytes'])}")
    if result["young"]:
        print(f"  {result['young']} more are unreferenced, but younger than an hour: they wait for the next time")
    return 0


async def _here(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from supervisor.commands.bucket import only_claimed
    from supervisor.snapshot.format import to_builtins

    async with only_claimed(settings, takeover=arguments.takeover) as (engine, _):
        with progress("reading manifests", quiet=arguments.json) as step:
            result: dict[str, Any] = to_builtins(await engine.collect(rehearse=arguments.dry_run, progress=step))
    return result
