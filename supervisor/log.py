"""The daemon's log: JSON lines, or readable on a terminal; secrets are masked in everything that is written."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import FilteringBoundLogger

MASK = "***"

_PATTERNS = re.compile(
    r"""(?ix)
    (?P<keep>\b(?:authorization|x-api-key|cf-aig-authorization)["']?\s*[:=]\s*["']?(?:bearer\s+|basic\s+)?
      | \bbearer\s+
      | ["']?\b[\w-]*(?:token|secret|password|passwd|api[_-]?key|access[_-]?key)["']?\s*[:=]\s*["']?
      | [?&](?:token|key|secret|sig|signature|x-amz-signature|x-amz-credential)=
    )(?P<value>[A-Za-z0-9._~+/=-]{6,})
    | \b(?:sk-[A-Za-z0-9_-]{16,}|xox[abposr]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}|gh[pousr]_[A-Za-z0-9]{20,}
      | \d{8,10}:[A-Za-z0-9_-]{35} | AKIA[0-9A-Z]{16} | eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*)
    """
)
"""Known forms of secrets, and values behind names that say that they are one."""


class Mask:
    """Replaces secrets in text: the values that it was given, and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._values: set[str] = set()
        self._known: re.Pattern[str] | None = None
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Mask these, too, from now on; what was known before stays masked."""
        self._values |= {secret for secret in secrets if len(secret) >= 6}
        # The longest first: one secret may begin another.
        known = sorted(self._values, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        return _PATTERNS.sub(lambda match: f"{match['keep'] or ''}{MASK}", text)

    def value(self, value: Any) -> Any:
        """The same, through lists and dicts."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.text(str(value))


def configure(*, output: str, level: str, mask: Mask, stream: TextIO | None = None) -> FilteringBoundLogger:
    """Set the log up; `output` is `auto`, `json` or `console`. Returns the logger to hand around.

    The standard library's loggers (of libraries) are routed into it from `warning` on.
    """
    stream = stream or sys.stderr
    readable = output == "console" or (output == "auto" and stream.isatty())

    def mask_event(logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {key: mask.value(item) for key, item in event.items()}

    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if readable else "iso", utc=not readable),
        structlog.processors.format_exc_info,
        mask_event,
    ]
    if readable:
        processors.append(structlog.dev.ConsoleRenderer(colors=stream.isatty()))
    else:
        processors.append(structlog.processors.JSONRenderer(ensure_ascii=False))
    number = getattr(logging, level.upper())
    logger: FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
    )
    root = logging.getLogger()
    root.handlers[:] = [_Forward(logger)]
    root.setLevel(max(number, logging.WARNING))
    return logger


class _Forward(logging.Handler):
    """A library's log record as an event of ours."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name, "detail": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            fields["exc_info"] = record.exc_info[1]
        self._logger.log(record.levelno, "library", **fields)
