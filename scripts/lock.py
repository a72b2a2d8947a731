"""Write the lock files from what is installed: names and versions, no addresses. Run by `make lock` in a fresh venv."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "requirements"
NOT_EVERYWHERE = {"backports-zstd": "python_version < '3.14'"}
NEVER = {"moltinit", "pip", "setuptools", "wheel"}


def name_of(text: str) -> str:
    """A distribution's normalised name."""
    return re.sub(r"[-_.]+", "-", text).lower()


def needed_by(root: str) -> set[str]:
    """Everything that `root` needs, without its extras."""
    found: set[str] = set()
    queue = [root]
    while queue:
        for requirement in metadata.distribution(queue.pop()).requires or ():
            if "extra ==" in requirement:
                continue
            name = name_of(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
            try:
                metadata.distribution(name)
            except metadata.PackageNotFoundError:
                continue  # for another platform or Python
            if name not in found:
                found.add(name)
                queue.append(name)
    return found


def lines(names: set[str]) -> list[str]:
    """`name==version` lines, sorted."""
    rows = []
    for name in sorted(names - NEVER):
        marker = f"; {NOT_EVERYWHERE[name]}" if name in NOT_EVERYWHERE else ""
        rows.append(f"{name}=={metadata.version(name)}{marker}\n")
    return rows


def main() -> int:
    """Two files: the image's, and the rest."""
    everything = {name_of(distribution.metadata["Name"]) for distribution in metadata.distributions()}
    runtime = needed_by("moltinit")
    head = "# Made by `make lock`. Installed with `pip install --no-deps -r`: everything that is needed is listed.\n"
    (FOLDER / "runtime.txt").write_text(head + "".join(lines(runtime)))
    (FOLDER / "dev.txt").write_text(head + "-r runtime.txt\n" + "".join(lines(everything - runtime)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
