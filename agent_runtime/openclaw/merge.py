"""The three-way merge of owned settings into a config that the user and the agent write to as well.

An owned setting is a path and a value. The ancestor is what moltinit wrote last time: where the config still says that,
nobody else has touched it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

Path = tuple[str, ...]
Config = dict[str, Any]


class Rule(Enum):
    """Who wins over what the config says already."""

    ENFORCED = "enforced"
    """moltinit, always: the front door and the probes depend on it."""
    OPERATOR = "operator"
    """The operator, when the setting is new or has changed since last time; else whoever edited the config."""
    DEFAULT = "default"
    """Whoever edited the config; moltinit only fills the gap."""


@dataclass(frozen=True, slots=True)
class Owned:
    """One owned setting. A dict as value is one whole: it is written and compared as such."""

    path: Path
    value: Any
    rule: Rule = Rule.OPERATOR


class _Missing:
    def __repr__(self) -> str:
        return "missing"


MISSING = _Missing()


@dataclass(frozen=True, slots=True)
class Merged:
    """The new config, the new ancestor, and the paths that were changed (dotted)."""

    config: Config
    base: dict[Path, Any]
    changed: tuple[str, ...]


def merge(config: Config, base: Mapping[Path, Any], owned: list[Owned]) -> Merged:
    """Merge `owned` into a copy of `config`."""
    merged = copy.deepcopy(config)
    changed: list[str] = []
    for item in owned:
        current = get(merged, item.path)
        if current != item.value and _takes_effect(item, current, base.get(item.path, MISSING)):
            put(merged, item.path, item.value)
            changed.append(".".join(item.path))
    wanted = {item.path for item in owned}
    for path, value in base.items():
        # The operator took it away: it goes, unless somebody has made it his own since.
        if path not in wanted and get(merged, path) == value:
            drop(merged, path)
            changed.append(".".join(path))
    return Merged(merged, {item.path: item.value for item in owned}, tuple(changed))


def _takes_effect(item: Owned, current: Any, ancestor: Any) -> bool:
    if item.rule is Rule.ENFORCED:
        return True
    if ancestor is MISSING:
        return item.rule is Rule.OPERATOR or current is MISSING
    if ancestor == item.value:
        return False
    return item.rule is Rule.OPERATOR or current == ancestor


def get(config: Config, path: Path) -> Any:
    """The value at `path`, or `MISSING`."""
    value: Any = config
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return MISSING
        value = value[key]
    return value


def put(config: Config, path: Path, value: Any) -> None:
    """Set the value at `path`; what stands in the way (a text where an object belongs) is replaced."""
    for key in path[:-1]:
        inner = config.get(key)
        if not isinstance(inner, dict):
            inner = config[key] = {}
        config = inner
    config[path[-1]] = copy.deepcopy(value)


def drop(config: Config, path: Path) -> None:
    """Remove the value at `path`, and the objects above it that are empty then."""
    above: list[tuple[Config, str]] = []
    for key in path[:-1]:
        above.append((config, key))
        config = config[key]
    config.pop(path[-1], None)
    for outer, key in reversed(above):
        if outer[key]:
            return
        del outer[key]
