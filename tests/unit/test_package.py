"""What is installed elsewhere has everything that it needs."""

import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_the_wheel_holds_the_templates_and_static_files(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path.relative_to(PROJECT))
        for directory in ("templates", "static")
        for path in (PROJECT / "supervisor/http/admin" / directory).iterdir()
    }
    assert len(wanted) >= 8
    assert wanted <= names
