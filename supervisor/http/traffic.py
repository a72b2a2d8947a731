"""What is counted of the traffic through the front door: few classes, never a path (anybody can invent paths)."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

_PROBES = frozenset({"/livez", "/readyz", "/startupz", "/sandbox-health", "/api/status"})
_WATCH = frozenset({"/status", "/metrics"})


class Traffic(Protocol):
    """Told of every request (`supervisor.health.metrics.Metrics` fits)."""

    def http_request(self, route: str, status: int) -> None:
        """A request was answered with a status; 499 where the client did not wait for it."""
        ...

    def websocket(self) -> AbstractContextManager[None]:
        """Open while a WebSocket is."""
        ...


def route_of(path: str) -> str:
    """The class of a path: `probe`, `watch` (status, metrics), `api`, `page`, or `agent`, which is everything else."""
    if path in _PROBES:
        return "probe"
    if path in _WATCH:
        return "watch"
    for prefix, route in (("/api/admin", "api"), ("/_admin", "page")):
        if path == prefix or path.startswith(prefix + "/"):
            return route
    return "agent"
