"""`moltinit snapshots`: what can be restored."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from supervisor.commands.context import load_settings, moment, show_json, table
from supervisor.commands.daemon import find_daemon
from supervisor.settings import Settings
from supervisor.units import format_size


def main(arguments: argparse.Namespace) -> int:
    """Out of the daemon's memory, or out of the bucket."""
    settings = load_settings()
    daemon = find_daemon(settings)
    if daemon:
        records = daemon.get("/api/admin/snapshots")["snapshots"]
        rescued = daemon.get("/api/admin/rescues")["rescues"]
    else:
        records, rescued = asyncio.run(_from_bucket(settings))
    if arguments.json:
        show_json({"snapshots": records, "rescues": rescued})
        return 0
    if not records:
        print("no snapshots yet")
    else:
        table(("NUMBER", "TAKEN", "FILES", "SIZE", "WHY", ""), [_row(record) for record in records])
    if rescued:
        print("\nwhat superseded writers could not commit (`moltinit restore KEY --to DIR`):")
        table(("KEY", "STORED"), [(one["key"], moment(one["stored_at"])) for one in rescued])
    return 0


async def _from_bucket(settings: Settings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    from supervisor.commands.bucket import open_bucket, read_head
    from supervisor.control import snapshot_document
    from supervisor.snapshot.format import to_builtins
    from supervisor.snapshot.history import rescues

    async with open_bucket(settings) as store:
        repository, head = await read_head(store)
        rescued = [to_builtins(one) for one in await rescues(repository)]
        return [snapshot_document(record) for record in reversed(head.snapshots)], rescued


def _row(record: dict[str, Any]) -> tuple[Any, ...]:
    marks = [
        "consistent" if record["consistent"] else "",
        "" if record["promoted"] else "kept aside",
        "damaged" if record["damaged"] else "",
        f"pinned: {record['pin']}" if record["pin"] else "",
        record["note"],
    ]
    return (
        record["sequence"],
        moment(record["taken_at"]),
        record["files"],
        format_size(record["bytes"]),
        record["reason"],
        ", ".join(mark for mark in marks if mark),
    )
