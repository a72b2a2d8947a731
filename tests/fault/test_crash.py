"""A slice of the crash matrix; `make crash-matrix` runs all of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_death_and_disk_trouble_at_every_nth_step_lose_nothing() -> None:
    """In a process without threads, since it forks."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fault.crash.runner", "9"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 not survived" in done.stdout
