from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[4]


def hardened(script: str, **environment: str) -> list[str]:
    program = f"import os\nfrom supervisor.init.cell.harden import harden, is_hard\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.defpath, **environment},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_secrets_are_gone_from_the_environment_and_from_where_the_kernel_put_them() -> None:
    script = """
harden(["KEY", "ABSENT"])
print("KEY" in os.environ, os.environ["OTHER"])
block = open("/proc/self/environ", "rb").read() if os.geteuid() == 0 else b""
print(b"s3cret" in block)
"""
    assert hardened(script, KEY="s3cret-value", OTHER="kept") == ["False kept", "False"]


def test_it_is_not_dumpable_and_its_files_are_for_nobody_else() -> None:
    script = """
import resource
before = is_hard()
harden([])
print(before, is_hard(), oct(os.umask(0)), resource.getrlimit(resource.RLIMIT_CORE))
"""
    assert hardened(script) == ["False True 0o77 (0, 0)"]


@pytest.mark.root
def test_root_gives_up_its_groups() -> None:
    assert hardened("harden([]); print(os.getgroups())") == ["[]"]
