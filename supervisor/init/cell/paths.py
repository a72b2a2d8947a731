"""Which paths the agent may use, as lists of grants: Landlock knows no exception below a grant, so a directory that
holds something hidden is granted by its other entries."""

from __future__ import annotations

import os
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


def readable(extra: Iterable[Path], hidden: Collection[Path]) -> list[str]:
    """Grants for reading and executing: the system and `extra`, but nothing at or below `hidden`."""
    return _grants((*SYSTEM, *map(str, extra)), hidden)


def writable(own: Iterable[Path], extra: Iterable[Path], hidden: Collection[Path]) -> list[str]:
    """Grants for everything: the agent's `own` directories, which may lie inside a hidden one, `extra`, and the
    temporary directories that hold nothing hidden."""
    secret = _resolved(hidden)
    shared = [path for path in SHARED if not any(_below(other, os.path.realpath(path)) for other in secret)]
    return [*map(str, own), *_grants(map(str, extra), hidden), *shared, *DEVICES]


def _grants(paths: Iterable[str], hidden: Collection[Path]) -> list[str]:
    secret = _resolved(hidden)
    grants: list[str] = []
    for path in paths:
        grants += _around(os.path.realpath(path), secret)
    return list(dict.fromkeys(grants))


def _resolved(paths: Iterable[Path]) -> list[str]:
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
