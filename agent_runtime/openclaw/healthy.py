"""The config that the gateway was last healthy on, and the way back to it.

The user and the agent edit the config, and an edit may leave a gateway that does not start. What counts as healthy is
shown by a life, not by a validator: the config that a gateway ran on for a while, or that a running gateway has itself
accepted (it writes `openclaw.json.last-good`) and went on with. A good edit is therefore never taken back: it becomes
the healthy one.
"""

from __future__ import annotations

import os
from pathlib import Path

from agent_runtime.contract import RuntimeFault
from agent_runtime.openclaw.files import read_small, write_whole
from agent_runtime.openclaw.layout import CONFIG

HEALTHY = ".moltinit/openclaw-config.healthy.json"
BROKEN = f"{CONFIG}.broken"
"""Where a config goes that was rolled back; of several the last one."""


class HealthyConfig:
    """One HOME's. Methods block on the local disk."""

    def __init__(self, home: Path) -> None:
        self._config = home / CONFIG
        self._accepted = home / f"{CONFIG}.last-good"
        self._healthy = home / HEALTHY
        self._broken = home / BROKEN
        self._started_on: bytes | None = None

    def starting(self) -> None:
        """A gateway is about to read the config."""
        self._started_on = read_small(self._config)

    def proven(self) -> bool:
        """The gateway has been healthy for a while: keep what it runs on; True where that was news.

        What it started on, or, where that was edited since, what it has accepted. An edit that it has not accepted
        waits for its next start.
        """
        current = read_small(self._config)
        if current is None or (current != self._started_on and current != read_small(self._accepted)):
            return False
        if current == read_small(self._healthy):
            return False
        write_whole(self._healthy, current)
        return True

    def roll_back(self) -> Path | None:
        """Put the last healthy config in place; returns where the broken one is kept, None where there is nothing to go
        back to. Raises `RuntimeFault`."""
        healthy, current = read_small(self._healthy), read_small(self._config)
        if healthy is None or healthy == current:
            return None
        if current is not None:
            write_whole(self._broken, current)
        elif os.path.lexists(self._config):
            self._set_aside()
        write_whole(self._config, healthy)
        return self._broken

    def _set_aside(self) -> None:
        """What is no small plain file (a link, a pipe, a directory) is kept as well, without being opened."""
        try:
            self._config.rename(self._broken)
        except OSError as error:
            raise RuntimeFault(
                f"{self._config} is no plain file, and cannot be moved to {self._broken.name}: {error.strerror}",
                hint=f"remove {self._broken}",
            ) from error
