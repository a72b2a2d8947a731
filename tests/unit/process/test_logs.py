from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from supervisor.process.log_file import LogFile
from supervisor.process.logs import FOLLOWED_AT_ONCE, MAX_LINE_BYTES, LineFramer, Logs
from tests.support.clock import FakeClock


def texts(logs: Logs) -> list[str]:
    return [line.text for line in logs.tail()]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_do_not_depend_on_how_the_output_was_cut_up(size: int) -> None:
    data = "one\n\ntwo é\r\nthree".encode()
    logs = Logs()
    for start in range(0, len(data), size):
        logs.feed(data[start : start + size])
    logs.end()
    assert texts(logs) == ["one", "", "two é", "three"]


def test_a_line_without_end_takes_bounded_memory_and_is_shown_cut() -> None:
    framer = LineFramer(limit=100)
    logs = Logs()
    for _ in range(50):
        assert framer.feed(b"x" * 1000) == []
        logs.feed(b"y" * 1000)
    ((line, dropped),) = framer.feed(b"\n")
    assert (len(line), dropped) == (100, 49_900)
    logs.feed(b"\nnext\n")
    assert texts(logs) == ["y" * MAX_LINE_BYTES + f" [{50_000 - MAX_LINE_BYTES} bytes more]", "next"]


def test_a_secret_is_masked_even_where_the_line_is_cut_through_it() -> None:
    logs = Logs(mask=lambda text: text.replace("sk-123456", "***"))
    logs.feed(b"key sk-12")
    logs.feed(b"3456\n")
    logs.feed(b"key sk-1\x1b[31m23456\n")
    logs.feed(b"x" * (MAX_LINE_BYTES - 4) + b"sk-123456" + b"x" * 5000 + b"\n")
    assert texts(logs)[:2] == ["key ***", "key ***"]
    assert "sk-1" not in texts(logs)[2]


def test_bytes_and_controls_that_a_terminal_would_obey_are_escaped() -> None:
    logs = Logs()
    logs.feed(b"\xff caf\xc3\xa9 \x1b[1mbold\x1b[0m \x1b]0;title\x07bell \x07 back \x08 \xe2\x80\xae\tend\n")
    assert texts(logs) == ["\\xff café bold bell \\x07 back \\x08 \\x202e\tend"]


def test_the_ring_forgets_the_oldest_and_numbers_go_on() -> None:
    clock = FakeClock(time=5000)
    logs = Logs(clock=clock, lines=3)
    logs.feed(b"a\nb\nc\nd\n")
    logs.note("noted")
    assert [(line.sequence, line.text) for line in logs.tail()] == [
        (3, "c"),
        (4, "d"),
        (5, "[moltinit] noted"),
    ]
    assert [line.sequence for line in logs.tail(1)] == [5]
    assert [line.sequence for line in logs.tail(after=4)] == [5]
    assert logs.tail(0) == []
    assert logs.tail()[0].at == 5000


async def test_followers_get_what_was_and_what_comes() -> None:
    logs = Logs()
    logs.feed(b"a\nb\n")
    seen: list[str] = []

    async def follow() -> None:
        async for line in logs.follow(after=1):
            seen.append(line.text)

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    logs.feed(b"c\n")
    await asyncio.sleep(0.01)
    logs.feed(b"d\ne\n")
    await asyncio.sleep(0.01)
    task.cancel()
    assert seen == ["b", "c", "d", "e"]


def test_the_file_is_private_and_rotated(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "logs", max_bytes=200, keep=2)
    logs = Logs(clock=FakeClock(time=0), file=file)
    for number in range(20):
        logs.feed(b"line %02d\n" % number)
    logs.close()
    names = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert names == ["agent.log", "agent.log.1", "agent.log.2"]
    assert all(path.stat().st_size <= 200 for path in (tmp_path / "logs").iterdir())
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (tmp_path / "logs").iterdir())
    assert file.path.read_text().splitlines()[-1] == "1970-01-01T00:00:00.000Z line 19"


def test_the_file_goes_on_where_the_last_life_left_it(tmp_path: Path) -> None:
    for word in (b"first\n", b"second\n"):
        logs = Logs(file=LogFile(tmp_path))
        logs.feed(word)
        logs.close()
    assert [line.split()[1] for line in (tmp_path / "agent.log").read_text().splitlines()] == [
        "first",
        "second",
    ]


def test_a_file_that_cannot_be_written_is_told_once_and_the_ring_goes_on(tmp_path: Path) -> None:
    errors: list[OSError] = []
    blocker = tmp_path / "logs"
    blocker.write_text("in the way")
    logs = Logs(file=LogFile(blocker, on_error=errors.append, max_bytes=1000))
    logs.feed(b"one\n")
    logs.feed(b"two\n")
    assert len(errors) == 1
    assert texts(logs) == ["one", "two"]
    blocker.unlink()
    logs.feed(b"y" * 1200 + b"\nthree\n")
    logs.feed(b"four\n")
    logs.close()
    assert (blocker / "agent.log").read_text().endswith("four\n")


def test_the_file_does_not_follow_a_link(tmp_path: Path) -> None:
    errors: list[OSError] = []
    os.symlink(tmp_path / "target", tmp_path / "agent.log")
    logs = Logs(file=LogFile(tmp_path, on_error=errors.append))
    logs.feed(b"one\n")
    assert len(errors) == 1
    assert not (tmp_path / "target").exists()


async def test_a_follower_that_is_slower_than_the_agent_sees_a_gap_and_keeps_little() -> None:
    logs = Logs(lines=1000)
    logs.feed(b"".join(b"%d\n" % number for number in range(1000)))
    lines = logs.follow()
    first = [(await anext(lines)).sequence for _ in range(FOLLOWED_AT_ONCE)]
    logs.feed(b"more\n" * 5000)
    assert first == list(range(1, FOLLOWED_AT_ONCE + 1))
    assert (await anext(lines)).sequence == 5001, "the oldest that is still kept"
    await lines.aclose()  # type: ignore[attr-defined]
