"""`moltinit doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
from dataclasses import asdict, dataclass

from agent_runtime.contract import RuntimeFault
from supervisor.commands.context import load_settings, show_json
from supervisor.commands.daemon import find_daemon
from supervisor.errors import ExitCode, MoltinitError, SettingsError
from supervisor.settings import Settings
from supervisor.units import format_size

SCARCE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `state` is `ok`, `note` (nothing is wrong, but worth knowing) or `bad`."""

    check: str
    state: str
    message: str
    hint: str = ""


def main(arguments: argparse.Namespace) -> int:
    """Changes nothing, but for one small object that it writes to the bucket and deletes."""
    try:
        settings = load_settings()
    except SettingsError as error:
        findings = [Finding("settings", "bad", error.message, error.hint)]
    else:
        findings = [Finding("settings", "ok", "valid"), *_agent(settings), *_disk(settings)]
        findings += asyncio.run(_door(settings))
        findings += asyncio.run(_bucket(settings))
        findings += _isolation(settings)
    bad = any(finding.state == "bad" for finding in findings)
    if arguments.json:
        show_json({"ok": not bad, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            print(f"{finding.state.upper():<5} {finding.check}: {finding.message}")
            if finding.hint:
                print(f"      {finding.hint}")
    return ExitCode.UNHEALTHY if bad else ExitCode.OK


def _agent(settings: Settings) -> list[Finding]:
    from supervisor.assembly import agent_runtime

    try:
        runtime = agent_runtime(settings)
        version = runtime.version()
        program = runtime.launch().argv[0]
    except RuntimeFault as fault:
        return [Finding("agent", "bad", fault.message, fault.hint)]
    except MoltinitError as error:
        return [Finding("agent", "bad", error.message, error.hint)]
    return [Finding("agent", "ok", f"{runtime.name} {version}, run by {program}")]


def _disk(settings: Settings) -> list[Finding]:
    place = settings.home
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return [Finding("disk", "bad", f"{place} cannot be written", "give MOLTINIT_HOME a place that can")]
    free = shutil.disk_usage(place).free
    if free < SCARCE_BYTES:
        return [Finding("disk", "bad", f"{format_size(free)} free at {place}", "the agent needs room to work in")]
    return [Finding("disk", "ok", f"{format_size(free)} free at {place}")]


async def _door(settings: Settings) -> list[Finding]:
    if settings.auth != "access" or settings.access_team_domain is None:
        return [Finding("front door", "ok", f"mode {settings.auth}")]
    from supervisor.clock import SystemClock
    from supervisor.http.access_keys import AccessKeys

    troubles: list[str] = []
    keys = AccessKeys(settings.access_team_domain, SystemClock(), troubles.append)
    try:
        count = await keys.count()
    finally:
        await keys.close()
    if not count:
        return [Finding("front door", "bad", troubles[-1], "is CF_ACCESS_TEAM_DOMAIN right, and the network up?")]
    return [Finding("front door", "ok", f"mode access; {keys.url} has {count} keys")]


async def _bucket(settings: Settings) -> list[Finding]:
    from supervisor.assembly import new_id
    from supervisor.clock import SystemClock
    from supervisor.commands.bucket import open_bucket
    from supervisor.snapshot.repository import Repository

    async with open_bucket(settings) as store:
        repository = Repository(store, SystemClock(), new_id)
        try:
            seen = await repository.read()
            await repository.prove_conditional_writes()
        except MoltinitError as error:
            return [Finding("bucket", "bad", error.message, error.hint)]
        if seen is None:
            return [Finding("bucket", "ok", f"{store.url} can be written; it holds no repository yet")]
        head = seen.head
        text = f"{store.url}: {len(head.snapshots)} snapshots, epoch {head.epoch}, {head.state}"
        return [Finding("bucket", "ok", text)]


def _isolation(settings: Settings) -> list[Finding]:
    """As measured on the agent that runs here; without one, whether it could have a user of its own."""
    daemon = find_daemon(settings)
    if daemon is None:
        return [_user(settings), Finding("isolation", "note", "no daemon runs here: a running agent can be measured")]
    try:
        document = daemon.get("/status")
    except MoltinitError as error:
        return [Finding("isolation", "note", f"the daemon does not tell: {error.message}", error.hint)]
    hints = {problem["code"]: problem["hint"] for problem in document["problems"]}
    findings = []
    for entry in document["isolation"]:
        hint = hints.get(f"isolation-{entry['measure']}", "")
        state = "ok" if entry["state"] == "on" else "bad" if hint else "note"
        text = entry["state"] + (f": {entry['reason']}" if entry["reason"] else "")
        findings.append(Finding(f"isolation {entry['measure']}", state, text, hint))
    return findings


def _user(settings: Settings) -> Finding:
    from supervisor.init.cell.user import choose_user

    try:
        user = choose_user(settings.agent_user)
    except SettingsError as error:
        return Finding("agent user", "bad", error.message, error.hint)
    if user.own:
        return Finding("agent user", "ok", f"the agent is going to run as user {user.uid}, group {user.gid}")
    return Finding("agent user", "note", f"the agent shares moltinit's user: {user.reason}", user.hint)
