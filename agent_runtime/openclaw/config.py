"""OpenClaw's config file: what moltinit owns in it, read, merged, and written so that a valid one is never lost."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_runtime.contract import AgentSettings, ConfigureReport, RuntimeFault
from agent_runtime.openclaw.channels import channels
from agent_runtime.openclaw.files import MOST_BYTES, read_small, write_whole
from agent_runtime.openclaw.identity import auth_settings
from agent_runtime.openclaw.layout import CONFIG, LEGACY_CONFIGS, OWNED_BASE, SKILLS, STATE
from agent_runtime.openclaw.merge import MISSING, Config, Owned, Rule, get, merge, put
from agent_runtime.openclaw.providers import browser, providers

MOST_JSON5 = 256 << 10
"""Characters; its parser reads some 25,000 a second."""

LOOPBACK = ["127.0.0.1", "::1"]


class ConfigUnreadable(RuntimeFault):
    """What is there is no config."""


def owned_settings(settings: AgentSettings) -> list[Owned]:
    """All that moltinit has a say in, for these settings."""
    return [
        *_gateway(settings),
        *providers(settings.broker),
        *browser(settings.broker),
        *channels(settings.variables),
    ]


def _gateway(settings: AgentSettings) -> list[Owned]:
    owned = [
        Owned(("gateway", "mode"), "local", Rule.ENFORCED),
        Owned(("gateway", "port"), settings.port, Rule.ENFORCED),
        # In a container its own default is all addresses, with a refusal to start where no auth is set.
        Owned(("gateway", "bind"), "loopback", Rule.ENFORCED),
        Owned(("gateway", "auth"), auth_settings(settings), Rule.ENFORCED),
        # The front door is on this machine, and says who is asking.
        Owned(("gateway", "trustedProxies"), LOOPBACK, Rule.ENFORCED),
        # The VM's program comes with the image; an update would be gone with the VM, and restarts on its own terms.
        Owned(("update", "checkOnStart"), False, Rule.DEFAULT),
        Owned(("discovery", "mdns", "mode"), "off", Rule.DEFAULT),
        # Its own default lies in /tmp, whatever TMPDIR says. All of it is on standard output, too.
        Owned(("logging", "file"), str(settings.scratch / "openclaw.log"), Rule.DEFAULT),
    ]
    if skills := [str(place) for place in SKILLS if place.is_dir()][:1]:
        owned.append(Owned(("skills", "load", "extraDirs"), skills, Rule.DEFAULT))
    if settings.public_origins:
        owned.append(Owned(("gateway", "controlUi", "allowedOrigins"), list(settings.public_origins)))
    else:
        # Under which name people come is known to nobody; that Origin and Host agree is checked by the front door, too.
        owned.append(Owned(("gateway", "controlUi", "dangerouslyAllowHostHeaderOriginFallback"), True))
    return owned


def configure(settings: AgentSettings) -> ConfigureReport:
    """Merge the settings into the config on disk. Raises `RuntimeFault`; the file is replaced whole or not at all."""
    path = settings.home / CONFIG
    try:
        return _configure(settings, path)
    except (RecursionError, UnicodeEncodeError) as error:
        # Both pass the parser: nested so deep that nothing else walks it, or half of a surrogate pair.
        raise ConfigUnreadable(f"{path} is not valid: {error}", hint=_UNREADABLE) from error


def _configure(settings: AgentSettings, path: Path) -> ConfigureReport:
    notes = [*_adopt_legacy_name(path)]
    text, config = _read(path)
    notes += _bring_paths_home(config, settings.home)
    base_path = settings.home / OWNED_BASE
    merged = merge(config, _read_base(base_path), owned_settings(settings))
    encoded = json.dumps(merged.config, indent=2, ensure_ascii=False) + "\n"
    if merged.changed or notes or text is None:
        write_whole(path, encoded.encode())
    base = json.dumps([[list(at), value] for at, value in merged.base.items()], indent=1) + "\n"
    if base.encode() != read_small(base_path):
        write_whole(base_path, base.encode())
    return ConfigureReport(merged.changed, tuple(notes))


def _adopt_legacy_name(path: Path) -> list[str]:
    """A state that came from an older name of the program; OpenClaw renames it only at its old place."""
    if os.path.lexists(path):
        return []
    for name in LEGACY_CONFIGS:
        legacy = path.with_name(name)
        if os.path.lexists(legacy) and stat.S_ISREG(legacy.lstat().st_mode):
            legacy.rename(path)
            return [f"{name} is now {path.name}"]
    return []


def _read(path: Path) -> tuple[str | None, Config]:
    content = read_small(path)
    if content is None:
        if not os.path.lexists(path):
            return None, {}
        raise ConfigUnreadable(
            f"{path} cannot be read: it is not a plain file of at most {MOST_BYTES >> 20} MiB", hint=_UNREADABLE
        )
    try:
        text = content.decode("utf-8")
        config = _parse(text)
    except ValueError as error:
        raise ConfigUnreadable(f"{path} is not valid: {error}", hint=_UNREADABLE) from error
    if not isinstance(config, dict):
        raise ConfigUnreadable(f"{path} is not an object", hint=_UNREADABLE)
    return text, config


_UNREADABLE = "repair it by hand (openclaw.json.last-good beside it was the last good one), or restore a snapshot"


def _parse(text: str) -> Any:
    """JSON, or JSON5, which OpenClaw reads as well."""
    try:
        return json.loads(text)
    except ValueError:
        if len(text) > MOST_JSON5:
            raise
        import json5

        return json5.loads(text)


def _bring_paths_home(config: Config, home: Path) -> list[str]:
    """Paths of another machine (an import has `/root/clawd`) would lie outside of what is saved."""
    notes = []
    workspace = str(home / STATE / "workspace")
    for at in _workspaces(config):
        value = get(config, at)
        if isinstance(value, str) and not _is_below(value, home):
            put(config, at, workspace)
            notes.append(f"{'.'.join(at)} was {value}, outside of the agent's home; it is {workspace} now")
    entries = get(config, ("agents", "entries"))
    for name in entries if isinstance(entries, dict) else ():
        directory = get(config, ("agents", "entries", name, "agentDir"))
        if isinstance(directory, str) and not _is_below(directory, home):
            put(config, ("agents", "entries", name, "agentDir"), str(home / STATE / "agents" / name / "agent"))
            notes.append(f"agents.entries.{name}.agentDir was {directory}, outside of the agent's home")
    return notes


def _workspaces(config: Config) -> list[tuple[str, ...]]:
    places: list[tuple[str, ...]] = [("agents", "defaults", "workspace")]
    entries = get(config, ("agents", "entries"))
    if isinstance(entries, dict):
        places += [("agents", "entries", name, "workspace") for name in entries]
    return [at for at in places if get(config, at) is not MISSING]


def _is_below(path: str, home: Path) -> bool:
    if path == "~" or path.startswith("~/"):
        return True
    return os.path.normpath(path).startswith(str(home) + os.sep)


def _read_base(path: Path) -> Mapping[tuple[str, ...], Any]:
    """What was written last time. Without it (or with a broken one) everything counts as new."""
    try:
        rows = json.loads(read_small(path) or b"[]")
        return {tuple(map(str, at)): value for at, value in rows}
    except (ValueError, TypeError, RecursionError):
        return {}
