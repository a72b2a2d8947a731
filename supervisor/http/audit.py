"""Who asked for what, when, and what became of it: every call that changes something, every download, every refusal.

Entries go to `MOLTINIT_HOME/logs/audit.jsonl` (one JSON object a line, its owner's eyes only, bounded by rotation), to
the daemon's own log, which leaves the machine, and to a bounded memory that the API reads. They hold names, numbers and
paths, never a body or a header, and pass the mask for secrets like everything that is written.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from supervisor.clock import Clock

UNKNOWN = "unknown"
KEPT = 1000
"""Entries in memory, of those who were recognised; of all others a fifth, in a memory of its own: whoever is refused a
thousand times does not push out what he came to hide."""
REFUSALS_AT_ONCE = 30
REFUSAL_SECONDS = 10.0
"""Anybody can be refused. After a burst, one refusal in so many seconds is written, with the number of those before it
that were not: 3 MB a day at most."""
MAX_TEXT = 200
RECALL_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class AuditLine:
    """An entry as a log file takes it."""

    at: float
    text: str


class Sink(Protocol):
    """Where lines go."""

    def write(self, lines: list[AuditLine]) -> None: ...


class EventLog(Protocol):
    """The part of a structlog logger that is used here."""

    def info(self, event: str, **values: Any) -> Any: ...


class AuditTrail:
    """See the module.

    Args:
        mask: replaces secrets, through lists and dicts.
        sink: the file, or None.
        path: the file to recall the newest entries of an earlier daemon on this disk from.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        mask: Callable[[Any], Any] = lambda value: value,
        sink: Sink | None = None,
        log: EventLog | None = None,
        path: Path | None = None,
    ) -> None:
        self._clock = clock
        self._mask = mask
        self._sink = sink
        self._log = log
        self._known: deque[tuple[int, dict[str, Any]]] = deque(maxlen=KEPT)
        self._bounded: deque[tuple[int, dict[str, Any]]] = deque(maxlen=KEPT // 5)
        self._allowance = float(REFUSALS_AT_ONCE)
        self._refilled = clock.monotonic()
        self._suppressed = 0
        self._count = 0
        for entry in _recall(path) if path is not None else ():
            self._remember(entry, bounded=entry["outcome"] == "refused")

    def record(
        self,
        *,
        who: str,
        known: bool = True,
        peer: str,
        method: str,
        route: str,
        parameters: Mapping[str, Any],
        status: int,
        code: str,
        seconds: float,
    ) -> None:
        """One call has ended.

        Args:
            who: the visitor's name, or `UNKNOWN` for one who was not let in.
            known: somebody was recognised. What nobody in particular does is bounded like a refusal, whatever its end:
                anybody can do it again and again.
            peer: the address that the connection came from.
            route: the path with its parameters' names in place of their values.
            code: the error's code, or empty.
        """
        refused = status in (401, 403, 429)
        bounded = refused or not known
        if bounded and not self._may_write_bounded():
            self._suppressed += 1
            return
        entry: dict[str, Any] = {
            "at": round(self._clock.time(), 3),
            "who": who,
            "peer": peer,
            "method": method,
            "route": route,
            "parameters": dict(parameters),
            "outcome": "refused" if refused else "failed" if status >= 400 else "done",
            "status": status,
            "code": code,
            "seconds": round(seconds, 3),
        }
        if bounded and self._suppressed:
            entry["suppressed"] = self._suppressed
            self._suppressed = 0
        entry = _clip(self._mask(entry))
        self._remember(entry, bounded=bounded)
        if self._sink is not None:
            self._sink.write([AuditLine(entry["at"], json.dumps(entry))])
        if self._log is not None:
            self._log.info("audit", **entry)

    def entries(self, limit: int) -> list[dict[str, Any]]:
        """The newest `limit` entries, newest first."""
        every = sorted([*self._known, *self._bounded], key=lambda numbered: numbered[0], reverse=True)
        return [entry for _, entry in every[:limit]]

    def _remember(self, entry: dict[str, Any], *, bounded: bool) -> None:
        self._count += 1
        (self._bounded if bounded else self._known).append((self._count, entry))

    def _may_write_bounded(self) -> bool:
        now = self._clock.monotonic()
        self._allowance = min(REFUSALS_AT_ONCE, self._allowance + (now - self._refilled) / REFUSAL_SECONDS)
        self._refilled = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


def _clip(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[: MAX_TEXT - 1] + "…"
    if isinstance(value, dict):
        return {_clip(key): _clip(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clip(item) for item in value[:20]]
    return value


def _recall(path: Path) -> list[dict[str, Any]]:
    """The newest entries of the file; what is no entry is passed over."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - RECALL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the first line may be cut, the last one half written
        if isinstance(entry, dict) and isinstance(entry.get("at"), int | float) and "outcome" in entry:
            found.append(entry)
    return found
