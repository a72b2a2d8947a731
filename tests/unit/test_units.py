"""Durations and sizes."""

from __future__ import annotations

import pytest

from supervisor.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("10s", 10), ("5m", 300), ("1h30m", 5400), ("2d", 172800), ("1.5s", 1.5)]
)
def test_a_duration_is_read_in_seconds_and_written_back(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "10 s", "-5s", "10x", "5m!"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "count"), [("64MiB", 64 << 20), ("1 GB", 10**9), ("17", 17), ("0.5KiB", 512)])
def test_a_size_is_read_in_bytes(text: str, count: int) -> None:
    assert parse_size(text) == count


def test_what_is_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size("many")


def test_a_size_is_shown_for_people() -> None:
    assert [format_size(n) for n in (0, 1023, 1536, 5 << 20)] == ["0 B", "1023 B", "1.5 KiB", "5.0 MiB"]
