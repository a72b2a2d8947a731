from __future__ import annotations

import os
from pathlib import Path

from supervisor.process.warming import Warming


def test_files_and_what_is_in_directories_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"x" * 100)
    (tmp_path / "modules" / "deep").mkdir(parents=True)
    (tmp_path / "modules" / "one.js").write_bytes(b"x" * 10)
    (tmp_path / "modules" / "deep" / "two.js").write_bytes(b"x" * 5)
    warming = Warming(lambda: (tmp_path / "program", tmp_path / "modules"))
    warming.start()
    warming.join(10)
    assert (warming.warmed.files, warming.warmed.bytes) == (3, 115)


def test_what_is_not_there_and_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"x")
    warming = Warming(lambda: (tmp_path / "gone", tmp_path / "fifo", tmp_path / "file"))
    warming.start()
    warming.join(10)
    assert warming.warmed.files == 1


def test_a_runtime_that_cannot_say_what_to_read_harms_nobody() -> None:
    def paths() -> tuple[Path, ...]:
        raise RuntimeError("no program")

    warming = Warming(paths)
    warming.start()
    warming.join(10)
    assert warming.warmed.files == 0


def test_it_ends_when_the_agent_is_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    warming = Warming(lambda: (tmp_path / "file",))
    warming.stop()
    warming.start()
    warming.join(10)
    assert warming.warmed.files == 0
