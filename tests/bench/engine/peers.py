"""What somebody would use instead, each run as its users run it. A program that is not installed is said to be so."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

SECRET = "bench-secret"


def keys() -> dict[str, str]:
    """The environment of every peer."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/root"),
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


def run(*command: str, **variables: str) -> None:
    """To its end. Raises `RuntimeError` with what the program said."""
    done = subprocess.run(
        command, env={**keys(), **variables}, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")


@dataclass
class Peer:
    """A program that saves and restores a directory."""

    name: str
    program: str
    install: str
    endpoint: str
    scratch: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def there(self) -> bool:
        """Is the program installed?"""
        return shutil.which(self.program) is not None

    def begin(self) -> None:
        """Once, before the first backup; not measured."""

    def save(self, root: Path) -> None:
        """The whole directory as it is now."""
        raise NotImplementedError

    def restore(self, target: Path) -> None:
        """The whole directory into an empty one."""
        raise NotImplementedError


class Rclone(Peer):
    """As moltworker runs it."""

    flags = ("--transfers=16", "--fast-list", "--s3-no-check-bucket")

    def _remote(self) -> tuple[str, dict[str, str]]:
        variables = {
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_CONFIG_R2_TYPE": "s3",
            "RCLONE_CONFIG_R2_PROVIDER": "Cloudflare",
            "RCLONE_CONFIG_R2_ENV_AUTH": "true",
            "RCLONE_CONFIG_R2_ENDPOINT": self.endpoint,
        }
        return "r2:rclone/tree", variables

    def save(self, root: Path) -> None:
        remote, variables = self._remote()
        run(self.program, "sync", str(root), remote, *self.flags, **variables)

    def restore(self, target: Path) -> None:
        remote, variables = self._remote()
        run(self.program, "copy", remote, str(target), *self.flags, **variables)


class S5cmd(Peer):
    """With its own defaults."""

    def save(self, root: Path) -> None:
        run(self.program, "--endpoint-url", self.endpoint, "sync", f"{root}/", "s3://s5cmd/tree/")

    def restore(self, target: Path) -> None:
        run(self.program, "--endpoint-url", self.endpoint, "cp", "s3://s5cmd/tree/*", f"{target}/")


class Restic(Peer):
    """16 connections; its repository is begun before the clock runs."""

    def _run(self, *command: str) -> None:
        run(
            self.program,
            "-o",
            "s3.connections=16",
            *command,
            RESTIC_REPOSITORY=f"s3:{self.endpoint}/restic/tree",
            RESTIC_PASSWORD="bench",
            RESTIC_CACHE_DIR=str(self.scratch / "restic-cache"),
        )

    def begin(self) -> None:
        self._run("init")

    def save(self, root: Path) -> None:
        self._run("backup", "--quiet", str(root))

    def restore(self, target: Path) -> None:
        shutil.rmtree(self.scratch / "restic-cache", ignore_errors=True)
        self._run("restore", "latest", "--target", str(target))


class Floor(Peer):
    """tar, zstd and curl: everything in one object, every time. Nothing that keeps a history can be faster."""

    def save(self, root: Path) -> None:
        line = f"tar -C {root} -cf - . | zstd -q -T2 -1 > {self.scratch}/floor.tar.zst"
        run("sh", "-c", f"{line} && curl -sSf -T {self.scratch}/floor.tar.zst {self.endpoint}/floor/tree.tar.zst")

    def restore(self, target: Path) -> None:
        run("sh", "-c", f"curl -sSf {self.endpoint}/floor/tree.tar.zst | zstd -dq | tar -C {target} -xf -")


def peers(endpoint: str, scratch: Path, *, signed_only: bool = False) -> list[Peer]:
    """All of them, installed or not; with `signed_only` those that sign their requests."""
    found = [
        Rclone("rclone", "rclone", "make bench-peers", endpoint, scratch),
        S5cmd("s5cmd", "s5cmd", "make bench-peers", endpoint, scratch),
        Restic("restic", "restic", "make bench-peers (a Debian package)", endpoint, scratch),
        Floor("floor (tar, zstd, curl)", "curl", "your distribution's curl", endpoint, scratch),
    ]
    return found[:-1] if signed_only else found
