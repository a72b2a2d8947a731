"""`moltinit undo`: take back the last restore."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from supervisor.commands.context import load_settings, progress, show_json
from supervisor.commands.daemon import find_daemon
from supervisor.settings import Settings


def main(arguments: argparse.Namespace) -> int:
    """Through the daemon where one runs here, else on the bare disk."""
    settings = load_settings()
    daemon = find_daemon(settings)
    record = daemon.post("/api/admin/restore/undo", {}) if daemon else asyncio.run(_here(settings, arguments))
    if arguments.json:
        show_json(record)
    else:
        print(f"{record['note']}: it is snapshot {record['sequence']} now; `moltinit undo` again brings back the other")
    return 0


async def _here(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    from supervisor.commands.bucket import claimed
    from supervisor.control import snapshot_document

    async with claimed(settings, takeover=arguments.takeover) as (engine, runtime):
        with progress("restoring", quiet=arguments.json) as step:
            record = await engine.restore(engine.before_last_restore().sequence, progress=step)
        await asyncio.to_thread(runtime.sanitise)
    return snapshot_document(record)
