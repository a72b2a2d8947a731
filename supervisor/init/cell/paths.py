"""Which paths the agent may use, as lists of grants: Landlock knows no exception below a grant, so a directory that
holds something hidden is granted by its other entries."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix", "/etc", "/proc", "/sys"),
    # Where /etc/resolv.conf leads, and the trust stores and font caches that programs look for.
    *("/run/systemd/resolve", "/run/resolvconf", "/var/lib/ca-certificates", "/var/cache/fontconfig"),
)
"""What programs need to read in order to run."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx", "/dev/pts")
SHARED = ("/tmp", "/var/tmp", "/dev/shm")
"""Temporary directories that programs name themselves."""

PRIVATE = ("/etc/moltinit", "/etc/shadow", "/etc/gshadow", "/etc/ssh", "/etc/ssl/private", "/etc/sudoers")
"""To be hidden where the agent shares the supervisor's user; another user cannot read them in the first place. Not
hidden from that one, since what is put into /etc later (a new resolv.conf) would then be out of reach, too."""

MOST_LINKS = 40
"""As many as the kernel follows on the way to a file."""


def readable(extra: Iterable[Path], hidden: Collection[Path]) -> list[str]:
    """Grants for reading and executing: the system and `extra`, but nothing at or below `hidden`."""
    return _grants((*SYSTEM, *map(str, extra)), hidden)


def writable(
    own: Iterable[Path], extra: Iterable[Path], hidden: Collection[Path], asked: Iterable[Path] = ()
) -> list[str]:
    """Grants for everything: the agent's `own` directories, which may lie inside a hidden one, `extra`, what its
    program `asked` for (see `owned`), and the temporary directories that hold nothing hidden.

    Where the way to one of them leads through another, there is no grant of its own: the other one covers it, unless
    the agent has put a link in its place, which may lead anywhere.
    """
    secret = _resolved(hidden)
    shared = [path for path in _resolved(SHARED) if not any(_below(other, path) for other in secret)]
    grants = list(shared)
    for path in sorted(map(str, own), key=_depth):
        if not _leads_through(path, grants):
            grants.append(os.path.realpath(path))
    for path in sorted(map(str, extra), key=_depth):
        if not _leads_through(path, grants):
            grants += _around(os.path.realpath(path), secret)
    for path in map(str, asked):
        if not _leads_through(path, grants):
            grants += _around(path, secret)
    return list(dict.fromkeys([*grants, *_resolved(DEVICES)]))


def owned(paths: Iterable[Path], uid: int) -> list[Path]:
    """Those of `paths` that are directories of this user, and no links to any; what leads to them is resolved."""
    kept = []
    for path in paths:
        place = Path(os.path.realpath(path.parent), path.name)
        with contextlib.suppress(OSError):
            status = place.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == uid:
                kept.append(place)
    return kept


def _leads_through(path: str, directories: Collection[str]) -> bool:
    """Is anything on the way to `path`, links followed, an entry of one of these directories or of one below?"""
    way, rest, links = "/", _parts(os.path.join(os.getcwd(), path)), 0
    while rest:
        if any(_below(way, directory) for directory in directories):
            return True
        part = rest.pop(0)
        if part == "..":
            way = os.path.dirname(way)
            continue
        step = os.path.join(way, part)
        try:
            target = os.readlink(step)
        except OSError:  # no link
            way = step
            continue
        links += 1
        if links > MOST_LINKS:
            return True
        way = "/" if target.startswith("/") else way
        rest = _parts(target) + rest
    return False


def _grants(paths: Iterable[str], hidden: Collection[Path]) -> list[str]:
    secret = _resolved(hidden)
    grants: list[str] = []
    for path in paths:
        grants += _around(os.path.realpath(path), secret)
    return list(dict.fromkeys(grants))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _depth(path: str) -> int:
    return len(_parts(os.path.abspath(path)))


def _resolved(paths: Iterable[str | Path]) -> list[str]:
    return [os.path.realpath(path) for path in paths]


def _around(path: str, secret: list[str]) -> list[str]:
    """`path`, or, where something secret lies below it, all of its entries but the way there."""
    if any(_below(path, other) for other in secret):
        return []
    if not any(_below(other, path) for other in secret):
        return [path] if os.path.exists(path) else []
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return []
    # A link is granted where it leads to, by that place's own grant.
    inner = [entry for name in names if not os.path.islink(entry := os.path.join(path, name))]
    return [grant for entry in inner for grant in _around(entry, secret)]


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
