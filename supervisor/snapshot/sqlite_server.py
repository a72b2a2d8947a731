"""The process that opens the agent's databases: one line of JSON a request on stdin, one a reply on stdout.

It is started by `sqlite_client` without the program's packages, and imports next to nothing, since it is started for
every snapshot in which a database changed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from supervisor.snapshot.descend import Root
from supervisor.snapshot.sqlite import Busy, Damaged, copy_database, integrity


def serve(root_fd: int) -> None:
    """Answer until stdin ends. `root_fd` is the open root of the agent's tree."""
    with Root(f"/proc/self/fd/{root_fd}") as root:
        for line in sys.stdin.buffer:
            reply = _answer(root, json.loads(line))
            sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
            sys.stdout.buffer.flush()


def _answer(root: Root, request: dict[str, object]) -> dict[str, object]:
    target = Path(str(request["target"]))
    tables = request["tables"]
    assert isinstance(tables, list)
    try:
        root.forget()  # directories may have been swapped since the last request
        directory, name = root.parent(str(request["path"]))
        copy_database(directory, name, target, tables)
    except (Busy, OSError) as error:
        target.unlink(missing_ok=True)
        return {"outcome": "busy", "detail": str(error)}
    except Damaged as error:
        target.unlink(missing_ok=True)
        return {"outcome": "damaged", "detail": str(error)}
    finding = integrity(target, quick=True) if request["check"] else None
    return {"outcome": "copied", "finding": finding}


def drop_to(uid: int, gid: int) -> None:
    """Become the agent's user for good."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def main(arguments: list[str]) -> None:
    """`ROOT_FD [UID GID]`."""
    if len(arguments) == 3:
        drop_to(int(arguments[1]), int(arguments[2]))
    serve(int(arguments[0]))
