"""The command line: what there is to say, and one place where errors are shown. Commands are imported when called."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence

from supervisor import __version__
from supervisor.errors import ExitCode, MoltinitError

COMMANDS = {
    "run": "be the agent's init: restore, launch, save, seal (the daemon)",
    "status": "what the daemon is doing, and what is wrong",
    "snapshots": "list the retained snapshots",
    "snapshot": "take a snapshot now",
    "restore": "restore a snapshot (or a part of it), in place or into another directory",
    "undo": "take back the last restore",
    "diff": "what differs between two snapshots",
    "pin": "keep a snapshot for good, or let go of it; change its note",
    "forget": "drop a snapshot from the list",
    "gc": "delete from the bucket what no snapshot refers to",
    "verify": "check that the snapshots in the bucket are whole",
    "mount": "show every snapshot as a read-only directory tree (FUSE)",
    "config": "show the effective settings and where each came from",
    "doctor": "check settings, bucket and agent; each finding comes with its fix",
}


WRITING = frozenset({"snapshot", "restore", "undo", "pin", "forget", "gc"})
"""Commands that need the claim."""


def _snapshot(text: str) -> int | str:
    return text if text.startswith("rescue/") else int(text)


def parser() -> argparse.ArgumentParser:
    """The whole grammar."""
    top = argparse.ArgumentParser(
        prog="moltinit",
        description="The init process that lets an AI agent live in VMs that die.",
        epilog="Settings come from the environment; docs/settings.md lists them, `moltinit config` shows them.",
    )
    top.add_argument("--version", action="version", version=f"moltinit {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name != "run":
            sub.add_argument("--json", action="store_true", help="print JSON")
        _arguments(name, sub)
    return top


def _arguments(name: str, sub: argparse.ArgumentParser) -> None:
    if name in WRITING:
        sub.add_argument(
            "--takeover",
            action="store_true",
            help="without a daemon here: even if another VM holds the bucket",
        )
    if name == "snapshot":
        sub.add_argument("--note", default="", help="a remark that the listing shows")
    elif name == "diff":
        sub.add_argument("before", type=int, metavar="A", help="number of a snapshot")
        sub.add_argument("after", nargs="?", type=int, metavar="B", help="number of another; default: the newest")
    elif name == "pin":
        sub.add_argument("snapshot", type=int, metavar="SNAPSHOT", help="its number")
        sub.add_argument("--name", default="pinned", help="why it is kept; the listing shows it")
        sub.add_argument("--remove", action="store_true", help="let go of it: retention decides again")
        sub.add_argument("--note", help="a remark that the listing shows")
    elif name == "forget":
        sub.add_argument("snapshot", type=int, metavar="SNAPSHOT", help="its number")
    elif name == "gc":
        sub.add_argument("--dry-run", action="store_true", help="only say what would be deleted")
    elif name == "restore":
        sub.add_argument(
            "snapshot",
            nargs="?",
            type=_snapshot,
            metavar="SNAPSHOT",
            help="its number, or the key of a rescued state (rescue/...); default: the newest",
        )
        sub.add_argument("--path", default="", help="only this file or folder, as `moltinit diff` writes it")
        sub.add_argument("--to", metavar="DIR", help="into this directory (empty or new), without touching the agent")
        sub.add_argument("--dry-run", action="store_true", help="only say what would change")
    elif name == "mount":
        sub.add_argument("directory", metavar="DIR", help="an empty directory")
    elif name == "verify":
        sub.add_argument("--deep", action="store_true", help="fetch and check every byte")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; see `ExitCode`."""
    arguments = parser().parse_args(argv)
    try:
        command = importlib.import_module(f"supervisor.commands.{arguments.command}")
        code: int = command.main(arguments)
        return code
    except MoltinitError as error:
        if getattr(arguments, "json", False):
            print(json.dumps({"error": error.as_dict()}))
        else:
            print(f"moltinit: {error.message}", file=sys.stderr)
            if error.hint:
                print(f"  hint: {error.hint}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has left; there is nobody to tell
        return int(ExitCode.INTERNAL)
