"""Who the agent is: the user that its processes and its files belong to."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from supervisor.errors import SettingsError

NAMES = ("agent", "openclaw")
"""Users that an image may have made for the agent; the first that exists is taken."""

UNNAMED = 10001
"""Where none exists: a number is enough for the kernel, and no file has to be changed for it. Below the ranges that
systemd and container runtimes give away (61184 and up), above those of people and packages."""

SAME = "same"
"""Asks for no user of the agent's own."""


@dataclass(frozen=True, slots=True)
class AgentUser:
    """Numbers of user and group. `own`: it is not the supervisor's; where it is, `reason` says why, and `hint` how it
    could be another."""

    uid: int
    gid: int
    own: bool
    reason: str = ""
    hint: str = ""

    @property
    def switch(self) -> tuple[int, int] | None:
        """What to change to; None where nothing is to be changed."""
        return (self.uid, self.gid) if self.own else None


def same_user(reason: str, hint: str = "") -> AgentUser:
    """The agent shares the supervisor's user."""
    return AgentUser(os.geteuid(), os.getegid(), own=False, reason=reason, hint=hint)


def choose_user(wanted: str | None) -> AgentUser:
    """The agent's user.

    Args:
        wanted: `NAME`, `UID` or `UID:GID`; `same`; None chooses.

    Raises:
        SettingsError: there is no such user, or it cannot be switched to.
    """
    if wanted == SAME:
        return same_user("MOLTINIT_AGENT_USER is 'same'")
    if os.geteuid() != 0:
        if wanted is None:
            return same_user(
                f"moltinit runs as user {os.geteuid()}, and only root can switch to another",
                "run moltinit as root: it then runs the agent as a user of its own",
            )
        raise SettingsError(
            f"MOLTINIT_AGENT_USER is {wanted!r}, and only root can switch to another user",
            hint="run moltinit as root, or leave MOLTINIT_AGENT_USER unset",
        )
    uid, gid = _numbers(wanted) if wanted is not None else _default()
    if uid == 0:
        raise SettingsError(
            f"MOLTINIT_AGENT_USER is {wanted!r}, which is root",
            hint="name an unprivileged user; 'same' gives up the protection, and says so on /status",
        )
    return AgentUser(uid, gid, own=True)


def _default() -> tuple[int, int]:
    for name in NAMES:
        try:
            row = pwd.getpwnam(name)
        except KeyError:
            continue
        if row.pw_uid != 0:
            return row.pw_uid, row.pw_gid
    return UNNAMED, UNNAMED


def _numbers(wanted: str) -> tuple[int, int]:
    user, _, group = wanted.partition(":")
    if user.isdecimal():
        uid = int(user)
        try:
            gid = int(group) if group else pwd.getpwuid(uid).pw_gid
        except KeyError:
            gid = uid
        return uid, gid
    try:
        row = pwd.getpwnam(user)
    except KeyError:
        raise SettingsError(
            f"MOLTINIT_AGENT_USER is {wanted!r}, and this machine has no such user",
            hint="make it (useradd --system --no-create-home agent), or give a number",
        ) from None
    return row.pw_uid, int(group) if group else row.pw_gid
