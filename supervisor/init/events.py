"""The part of a structured logger that this package and the ones above it write to."""

from __future__ import annotations

from typing import Protocol


class EventLog(Protocol):
    """A structlog logger fits; a test hands in a list-backed one."""

    def info(self, event: str, **fields: object) -> object:
        """Something happened as intended."""
        ...

    def warning(self, event: str, **fields: object) -> object:
        """Something happened that an operator may want to look into."""
        ...


class NoLog:
    """Where nobody listens."""

    def info(self, event: str, **fields: object) -> None:
        pass

    def warning(self, event: str, **fields: object) -> None:
        pass
