"""`moltinit verify`: are the snapshots whole?"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from supervisor.commands.context import load_settings, progress, show_json
from supervisor.errors import ExitCode
from supervisor.settings import Settings
from supervisor.units import format_size


def main(arguments: argparse.Namespace) -> int:
    """Reads the bucket only; works beside a running daemon. Exit code 12 where something is damaged."""
    result = asyncio.run(_verify(load_settings(), arguments))
    if arguments.json:
        show_json(result)
    else:
        _show(result)
    return ExitCode.OK if result["sound"] else ExitCode.RESTORE_FAILED


def _show(result: dict[str, Any]) -> None:
    looked_at = f"{result['snapshots']} snapshots, {result['packs']} packs"
    if result["deep"]:
        looked_at += f", {result['blobs']} pieces of content, {format_size(result['bytes'])}"
    print(f"{looked_at}: {'all whole' if result['sound'] else 'DAMAGED'}")
    for number, findings in result["damaged"].items():
        print(f"  snapshot {number}:")
        for finding in findings:
            print(f"    {finding}")


async def _verify(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from supervisor.commands.bucket import open_bucket, read_head
    from supervisor.snapshot.verify import verify

    async with open_bucket(settings) as store:
        repository, head = await read_head(store)
        with progress("checking", quiet=arguments.json) as step:
            report = await verify(repository, head, deep=arguments.deep, progress=step)
    return {
        "sound": report.sound,
        "deep": arguments.deep,
        "snapshots": report.snapshots,
        "packs": report.packs,
        "blobs": report.blobs,
        "bytes": report.bytes,
        "damaged": {str(number): findings for number, findings in sorted(report.damaged.items())},
    }
