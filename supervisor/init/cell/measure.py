"""What holds the agent in, read from its running process: an intention is not a measure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.init.cell.user import AgentUser

OWN_USER = "own-user"
NO_CAPABILITIES = "no-capabilities"
NO_NEW_PRIVILEGES = "no-new-privileges"
LANDLOCK = "landlock"
LIMITS = "resource-limits"
CLEAN_ENVIRONMENT = "clean-environment"
NOT_DUMPABLE = "supervisor-not-dumpable"
KEYS_HIDDEN = "bucket-keys-hidden"

SCOPED_ABI = 6
"""From this version on Landlock keeps signals and abstract sockets within the cell, too (Linux 6.12)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One measure. One that is off says why; `hint` says how it could be on, and is empty where it could not."""

    measure: str
    on: bool
    reason: str = ""
    hint: str = ""


def measure(
    pid: int,
    user: AgentUser,
    report: Mapping[str, Any],
    *,
    environment: Mapping[str, str],
    secrets: Sequence[str],
    hard: bool,
    proc: Path = Path("/proc"),
) -> list[Finding]:
    """Look at the agent's process.

    Args:
        report: what `enter` told.
        environment: the variables that the agent was to get.
        secrets: values that must not be in its environment.
        hard: the supervisor is not dumpable.
    """
    try:
        status = _fields((proc / str(pid) / "status").read_text("utf-8", "replace"))
    except OSError as error:
        gone = f"the agent's process cannot be looked at: {error.strerror}"
        return [
            Finding(name, False, gone)
            for name in (OWN_USER, NO_CAPABILITIES, NO_NEW_PRIVILEGES, LANDLOCK, LIMITS, CLEAN_ENVIRONMENT, KEYS_HIDDEN)
        ] + [_hardness(hard)]
    held = environ_of(proc / str(pid))
    return [
        _own_user(status, user),
        _capabilities(status),
        _new_privileges(status),
        _landlock(report),
        _limits(proc / str(pid) / "limits"),
        _environment(held, environment),
        _keys(held, secrets, user, report),
        _hardness(hard),
    ]


def environ_of(process: Path) -> bytes | None:
    """A process's environment; None where it may not be read."""
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return None


def _fields(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def _own_user(status: Mapping[str, str], user: AgentUser) -> Finding:
    ids = {int(number) for number in (*status["Uid"].split(), *status["Gid"].split())}
    if not user.own:
        return Finding(OWN_USER, False, user.reason, user.hint)
    if ids != {user.uid, user.gid} or status.get("Groups", "").split():
        return Finding(OWN_USER, False, f"the process has the ids {sorted(ids)}, not {user.uid}:{user.gid}")
    return Finding(OWN_USER, True)


def _capabilities(status: Mapping[str, str]) -> Finding:
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapAmb") if int(status.get(name, "0"), 16)]
    # Without privileges there is no dropping the bounding set, and with no_new_privs no way to make use of it.
    if int(status.get("CapBnd", "0"), 16) and status.get("NoNewPrivs") != "1":
        held.append("CapBnd")
    return Finding(NO_CAPABILITIES, not held, f"the process has {', '.join(held)}" if held else "")


def _new_privileges(status: Mapping[str, str]) -> Finding:
    on = status.get("NoNewPrivs") == "1"
    return Finding(NO_NEW_PRIVILEGES, on, "" if on else "the process may still gain privileges by set-user-id programs")


def _landlock(report: Mapping[str, Any]) -> Finding:
    abi = report.get("landlock", 0)
    if not isinstance(abi, int) or abi < 1:
        why = report.get("landlock_error", "unknown")
        return Finding(
            LANDLOCK,
            False,
            f"this kernel does not offer it ({why})",
            "use a kernel from 5.13 on with landlock among its security modules (lsm=landlock,...)",
        )
    if abi < SCOPED_ABI:
        return Finding(LANDLOCK, True, f"version {abi}: signals and abstract sockets are not held back (from 6 on)")
    return Finding(LANDLOCK, True)


def _limits(path: Path) -> Finding:
    try:
        lines = path.read_text("ascii", "replace").splitlines()
    except OSError as error:
        return Finding(LIMITS, False, f"the limits cannot be read: {error.strerror}")
    cores = next((line.split()[4] for line in lines if line.startswith("Max core file size")), "unlimited")
    return Finding(LIMITS, cores == "0", "" if cores == "0" else f"core files up to {cores} bytes are written")


def _environment(held: bytes | None, wanted: Mapping[str, str]) -> Finding:
    if held is None:
        return Finding(CLEAN_ENVIRONMENT, False, "the agent's environment cannot be read")
    names = {item.partition(b"=")[0] for item in held.split(b"\0") if item}
    foreign = sorted(os.fsdecode(name) for name in names - {os.fsencode(name) for name in wanted})
    # A program that writes its title does so over its environment: what is no variable's name is not counted.
    foreign = [name for name in foreign if name.replace("_", "").isalnum() and name.isupper()]
    return Finding(CLEAN_ENVIRONMENT, not foreign, f"it has {', '.join(foreign)[:200]} as well" if foreign else "")


def _keys(held: bytes | None, secrets: Sequence[str], user: AgentUser, report: Mapping[str, Any]) -> Finding:
    if held is None:
        return Finding(KEYS_HIDDEN, False, "the agent's environment cannot be read")
    if any(os.fsencode(secret) in held for secret in secrets):
        return Finding(KEYS_HIDDEN, False, "a key of the bucket is in the agent's environment")
    if not user.own and not report.get("landlock"):
        return Finding(
            KEYS_HIDDEN, False, "the agent has the supervisor's user, and Landlock is off: its files are open"
        )
    return Finding(KEYS_HIDDEN, True)


def _hardness(hard: bool) -> Finding:
    return Finding(NOT_DUMPABLE, hard, "" if hard else "the kernel did not take PR_SET_DUMPABLE")
