"""A container from the image: what `tests.support.daemon.Daemon` is for a process.

The tests run in a network namespace of their own, with loopback alone, and so do the containers (`--network host` is
the namespace that podman runs in): nothing reaches the internet, and everything reaches the S3 server of the test.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from agent_runtime.openclaw.rpc import Rpc
from tests.support.daemon import Daemon

IMAGE = os.environ.get("MOLTINIT_TEST_IMAGE", "moltinit:latest")
TOKEN = "a-token-of-the-operator-0123456789"
SESSION = "agent:main:main"
TURN_SECONDS = 90.0

HARDENED = (
    "--read-only",
    "--tmpfs=/tmp:rw,nosuid,nodev,mode=1777",
    "--tmpfs=/var/lib/moltinit:rw,nosuid,nodev,mode=0755,size=1g",
    "--security-opt=no-new-privileges",
    "--cap-drop=all",
    *(f"--cap-add={name}" for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID", "SETPCAP")),
    "--memory=3g",
    "--pids-limit=512",
)
"""As image/compose.yaml and image/kubernetes.yaml run it."""


async def podman(*arguments: str, timeout: float = 120.0) -> tuple[int, str]:
    """Exit code, and stdout with stderr."""
    process = await asyncio.create_subprocess_exec(
        "podman",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(timeout):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError(f"podman {arguments[0]} took more than {timeout:g} s") from None
    return process.returncode or 0, output.decode("utf-8", "replace")


class Container(Daemon):
    """One life in a container. A new one is another VM, with an empty disk."""

    def __init__(self, place: Path, *, bucket: Mapping[str, str], options: tuple[str, ...], **variables: str) -> None:
        super().__init__(place, bucket=bucket, **variables)
        self.name = f"moltinit-test-{uuid.uuid4().hex[:12]}"
        self.options = options
        for name in ("PATH", "LANG", "MOLTINIT_HOME"):
            del self.variables[name]
        self.variables |= {"MOLTINIT_LISTEN": f"0.0.0.0:{self.port}", "MOLTINIT_OPERATOR_TOKEN": TOKEN}

    async def start(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        # From a file, not on the command line: other processes of the machine can read that.
        environment = self.place / "environment"
        environment.write_text("".join(f"{name}={value}\n" for name, value in self.variables.items()))
        with self.log.open("ab") as log:
            self.started_at = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                "podman",
                "run",
                f"--name={self.name}",
                "--network=host",
                f"--env-file={environment}",
                *self.options,
                IMAGE,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"})

    async def ready(self, seconds: float = 300.0) -> None:
        """Wait for `/readyz`; a machine that others use may take its time."""
        await super().ready(seconds)

    async def execute(self, *command: str, timeout: float = 60.0) -> tuple[int, str]:
        """A command in the container, as root."""
        return await podman("exec", self.name, *command, timeout=timeout)

    async def inspect(self) -> dict[str, Any]:
        """What podman knows of its state."""
        code, output = await podman("inspect", "--format={{json .State}}", self.name)
        assert code == 0, output
        state = json.loads(output)
        assert isinstance(state, dict)
        return state

    async def stop(self, seconds: float = 60.0) -> int:
        """As a platform does: TERM, a grace, KILL. The exit code."""
        code, output = await podman("stop", "--time=30", self.name, timeout=seconds)
        assert code == 0, output
        return await self.wait()

    async def kill(self) -> None:
        code, output = await podman("kill", "--signal=KILL", self.name)
        assert code == 0, output
        await self.wait()

    async def close(self) -> None:
        await podman("rm", "--force", "--time=0", "--volumes", self.name)
        if self._process is not None:
            await self.wait()
        if self._session is not None:
            await self._session.close()

    # -- the agent, through the front door

    def rpc(self) -> Rpc:
        """The gateway's protocol; the token is Basic's password."""
        return Rpc(f"ws://operator:{TOKEN}@127.0.0.1:{self.port}/", None)

    async def talk(self, text: str) -> str:
        """One turn; the agent's answer."""
        async with asyncio.timeout(TURN_SECONDS), self.rpc() as connection:
            run = await connection.call(
                "chat.send", {"sessionKey": SESSION, "message": text, "idempotencyKey": str(uuid.uuid4())}
            )
            while True:
                event = await connection.event("chat")
                if event.get("runId") == run["runId"] and event.get("state") in ("final", "error", "aborted"):
                    return json.dumps(event.get("message") or event)

    async def history(self) -> str:
        """All that was said."""
        async with asyncio.timeout(30), self.rpc() as connection:
            return json.dumps(await connection.call("chat.history", {"sessionKey": SESSION}))


@asynccontextmanager
async def container(
    place: Path, *, bucket: Mapping[str, str], options: tuple[str, ...] = HARDENED, **variables: str
) -> AsyncIterator[Container]:
    """A started container, gone at the end."""
    life = Container(place, bucket=bucket, options=options, **variables)
    try:
        await life.start()
        yield life
    finally:
        await life.close()
