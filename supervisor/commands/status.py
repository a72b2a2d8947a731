"""`moltinit status`: how it goes."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from supervisor.commands.context import load_settings, moment, show_json
from supervisor.commands.daemon import find_daemon
from supervisor.errors import ExitCode
from supervisor.settings import Settings
from supervisor.units import format_size


def main(arguments: argparse.Namespace) -> int:
    """The daemon's own account; without a daemon here, what the bucket says of the last writer."""
    settings = load_settings()
    daemon = find_daemon(settings)
    status = daemon.get("/status") if daemon else asyncio.run(_from_bucket(settings))
    if arguments.json:
        show_json(status)
    elif daemon:
        _show(status)
    else:
        _show_bucket(status)
    return ExitCode.OK if not daemon or status["ready"] else ExitCode.UNHEALTHY


def _show(status: dict[str, Any]) -> None:
    agent, snapshots, bucket = status["agent"], status["snapshots"], status["bucket"]
    print(f"phase     {status['phase']}, {'ready' if status['ready'] else 'not ready'}")
    process = f"pid {agent['pid']}, {agent['restarts']} restarts"
    print(f"agent     {agent['name']} {agent['version']}: {agent['state']}, {process}")
    last = snapshots["last"]
    if last:
        size = format_size(last["bytes"])
        print(f"snapshot  {last['sequence']} of {moment(last['taken_at'])}: {last['files']} files, {size}")
    print(f"          {snapshots['count']} retained{', a change is pending' if snapshots['pending'] else ''}")
    reachable = "reachable" if bucket["reachable"] else "NOT REACHABLE"
    print(f"bucket    {bucket['url']}: {reachable}, epoch {bucket['epoch']}")
    for problem in status["problems"]:
        print(f"PROBLEM   {problem['code']}: {problem['message']}")
        if problem["hint"]:
            print(f"          hint: {problem['hint']}")


async def _from_bucket(settings: Settings) -> dict[str, Any]:
    from supervisor.commands.bucket import open_bucket, read_head
    from supervisor.control import snapshot_document

    async with open_bucket(settings) as store:
        _, head = await read_head(store)
        return {
            "phase": None,
            "ready": False,
            "bucket": {
                "url": store.url,
                "epoch": head.epoch,
                "state": head.state,
                "writer": head.writer.boot,
                "host": head.writer.host,
                "updated_at": head.updated_at,
            },
            "snapshots": {
                "last": snapshot_document(head.snapshots[-1]) if head.snapshots else None,
                "count": len(head.snapshots),
            },
        }


def _show_bucket(status: dict[str, Any]) -> None:
    bucket, last = status["bucket"], status["snapshots"]["last"]
    print("no daemon runs here")
    print(f"bucket    {bucket['url']}: {bucket['state']}, epoch {bucket['epoch']}, last writer {bucket['host']}")
    print(f"          last changed {moment(bucket['updated_at'])}")
    if last:
        print(f"snapshot  {last['sequence']} of {moment(last['taken_at'])}: {last['files']} files")
