"""The compile cache that an image brings: what Node would compile at each first start in a new VM.

It lies beside `node_modules`, made by `image/bin/warm-up`: `node/` is the cache, `files` the program files that a start
loads. Node keeps code in `PLACE/NAME` (the launcher's PLACE is `$TMPDIR/node-compile-cache`, the program's lies below
it), where NAME holds its version, its user, and a number that depends on the processor's features. The code does not
(it is bytecode, and V8 checks each piece), so the image has it as `PLACE/code`, and one link a place, under the name
that Node asks for, serves every processor and user: read-only.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from agent_runtime.openclaw.program import Program

FOLDER = "compile-cache"
CODE = "code"
NAME_SECONDS = 10.0
"""For a Node that does nothing but say a name: it takes 0.05 s."""


class _User(TypedDict, total=False):
    """What `subprocess` calls a user."""

    user: int
    group: int
    extra_groups: list[int]


_ASK = 'require("node:module").enableCompileCache(process.argv[1])'


def brought(program: Program) -> Path | None:
    """The image's cache; None where there is none."""
    folder = program.package.parent.parent / FOLDER
    return folder if (folder / "node").is_dir() else None


def loaded_by_a_start(program: Program) -> tuple[Path, ...]:
    """The program files that a start loads, in order; empty where nobody has listed them."""
    try:
        lines = (program.package.parent.parent / FOLDER / "files").read_text("utf-8").splitlines()
    except OSError:
        return ()
    return tuple(Path(line) for line in lines if line)


def use(program: Program, cache: Path, uid: int, gid: int | None = None) -> bool:
    """Let a Node that looks into `cache` find the image's; returns whether it will.

    Only speed depends on it, so nothing is raised. A cache that is there already (the VM's own, from an earlier start)
    is left alone.

    Args:
        cache: `$TMPDIR/node-compile-cache`.
        uid: the user that Node is going to run as, and is asked as, where this process may choose.
        gid: that user's group; None is the one of the same number.
    """
    source = brought(program)
    if source is None:
        return False
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        places = [path.parent.relative_to(source / "node") for path in (source / "node").rglob(CODE)]
        if all(_linked(cache / place) for place in places):
            return True  # before, in this VM
        name = _name(program, cache.parent, uid, uid if gid is None else gid)
        for place in places:
            (cache / place).mkdir(parents=True, exist_ok=True, mode=0o700)
            with suppress(FileExistsError):
                os.symlink(source / "node" / place / CODE, cache / place / name)
        return True
    return False


def _linked(place: Path) -> bool:
    return place.is_dir() and any(entry.is_symlink() for entry in place.iterdir())


def _name(program: Program, place: Path, uid: int, gid: int) -> str:
    """How this Node names this user's caches on this machine. Raises `ValueError`, `OSError`, `SubprocessError`.

    It writes below `place`, the user's own, with the user's rights: those that this thread has for files do
    not reach a new program, and what it made as root this thread could not remove.
    """
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    switch: _User = {"user": uid, "group": gid, "extra_groups": []} if os.getuid() == 0 and uid != 0 else {}
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        subprocess.run(
            [program.node, "-e", _ASK, scratch],
            check=True,
            timeout=NAME_SECONDS,
            env={},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **switch,
        )
        (made,) = os.listdir(scratch)
    if not made.endswith(f"-{uid}"):
        raise ValueError(f"Node names its caches {made!r}, not ...-{uid}")
    return made
