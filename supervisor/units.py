"""Durations and sizes as people write them: `500ms`, `10s`, `5m`, `64MiB`."""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kKMGT]i?B|B|)")


def parse_duration(text: str) -> float:
    """Seconds. `1m30s` is possible, a bare number is not: nobody can tell what it means. Raises `ValueError`."""
    text = text.strip()
    if not text or _PART.sub("", text):
        raise ValueError("not a duration; write it as 500ms, 10s, 5m, 2h or 1m30s")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def format_duration(seconds: float) -> str:
    """The shortest way to write it that `parse_duration` reads back."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / _SECONDS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    if seconds >= 1:
        return f"{seconds:g}s"
    return f"{round(seconds * 1000)}ms"


def parse_size(text: str) -> int:
    """Bytes. Raises `ValueError`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2] not in _BYTES:
        raise ValueError("not a size; write it as 512KiB, 64MiB, 2GiB or a number of bytes")
    return int(float(match[1]) * _BYTES[match[2]])


def format_size(count: float) -> str:
    """For people: three significant digits, binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
