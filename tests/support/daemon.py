"""A real `moltinit run` in a process of its own, on a disk of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

READY_SECONDS = 150.0


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Daemon:
    """One life. `place` is the VM's disk: another place is another VM."""

    def __init__(self, place: Path, *, bucket: Mapping[str, str], **variables: str) -> None:
        self.place = place
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = place / "log.jsonl"
        self.variables = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "MOLTINIT_HOME": str(place / "moltinit"),
            "MOLTINIT_LISTEN": f"127.0.0.1:{self.port}",
            "MOLTINIT_AGENT_PORT": str(free_port()),
            "MOLTINIT_LOG_FORMAT": "json",
            # Never a rule in the machine's own network: tests of the filter make a namespace of theirs.
            "MOLTINIT_EGRESS": "open",
            **bucket,
            **variables,
        }
        self.started_at = 0.0
        self._process: asyncio.subprocess.Process | None = None
        self._adopted: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession | None = None

    @property
    def agent_home(self) -> Path:
        """The agent's HOME."""
        return Path(self.variables.get("MOLTINIT_AGENT_HOME", str(self.place / "moltinit" / "agent")))

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Has it not exited?"""
        if self._adopted is not None:
            return self._adopted.poll() is None
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Exec, nothing more."""
        self.place.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.started_at = time.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "supervisor",
                "run",
                env=self.variables,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parents[2],
                start_new_session=True,
            )
        self._session = aiohttp.ClientSession()

    def adopt(self, process: subprocess.Popen[bytes]) -> None:
        """Somebody else has started it, and ends it."""
        self._adopted = process
        self._session = aiohttp.ClientSession()

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON; status 0 where nobody answers."""
        assert self._session is not None
        try:
            async with self._session.get(self.url + path, timeout=aiohttp.ClientTimeout(total=10)) as answer:
                body = await answer.read()
                try:
                    return answer.status, json.loads(body)
                except ValueError:
                    return answer.status, body.decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, None

    async def post(self, path: str, document: object = None) -> tuple[int, Any]:
        """Status and JSON."""
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=120)
        async with self._session.post(self.url + path, json=document or {}, timeout=timeout) as answer:
            return answer.status, json.loads(await answer.read())

    async def delete(self, path: str) -> tuple[int, Any]:
        """Status and JSON."""
        assert self._session is not None
        async with self._session.delete(self.url + path, timeout=aiohttp.ClientTimeout(total=60)) as answer:
            return answer.status, json.loads(await answer.read())

    async def status(self) -> dict[str, Any]:
        """`/status`, which must be there."""
        code, document = await self.get("/status")
        assert code == 200, (code, document, self.tail())
        assert isinstance(document, dict)
        return document

    async def until(
        self, what: str, path: str, wanted: Callable[[int, Any], bool], seconds: float = READY_SECONDS
    ) -> Any:
        """Ask `path` until the answer is as wanted."""
        last: tuple[int, Any] = (0, None)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.running, f"the daemon exited while waiting until {what}\n{self.tail()}"
            last = await self.get(path)
            if wanted(*last):
                return last[1]
            await asyncio.sleep(0.1)
        raise AssertionError(f"not within {seconds:g} s: {what}; last {path}: {last}\n{self.tail()}")

    async def ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait for `/readyz`."""
        await self.until("it is ready", "/readyz", lambda code, _: code == 200, seconds)

    async def committed(self, after: int, seconds: float = 30.0) -> dict[str, Any]:
        """Wait for a snapshot with a number above `after`."""

        def newer(code: int, status: Any) -> bool:
            return code == 200 and (status["snapshots"]["last"] or {"sequence": 0})["sequence"] > after

        document = await self.until(f"a snapshot after {after}", "/status", newer, seconds)
        last = document["snapshots"]["last"]
        assert isinstance(last, dict)
        return last

    async def saved(self, seconds: float = 30.0) -> None:
        """Wait until nothing is pending."""
        await self.until(
            "everything is saved",
            "/status",
            lambda code, status: code == 200 and status["snapshots"]["last"] and not status["snapshots"]["pending"],
            seconds,
        )

    def signal(self, number: int) -> None:
        """Send a signal to the daemon alone."""
        os.kill(self.pid, number)

    async def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return await self.wait(seconds)

    async def wait(self, seconds: float = 60.0) -> int:
        """The exit code."""
        assert self._process is not None
        try:
            async with asyncio.timeout(seconds):
                return await self._process.wait()
        except TimeoutError:
            raise AssertionError(f"still running after {seconds:g} s\n{self.tail()}") from None

    async def kill(self) -> None:
        """The VM is gone: the daemon and everything below it at the same moment, without a warning."""
        assert self._process is not None
        family = [self.pid, *descendants(self.pid)]
        for pid in family:  # nobody gets to see the others die
            _signal(pid, signal.SIGSTOP)
        for pid in {*family, *descendants(self.pid)}:
            _signal(pid, signal.SIGKILL)
        await self._process.wait()

    async def close(self) -> None:
        """Leave nothing behind."""
        if self.running and self._adopted is None:
            await self.kill()
        if self._session is not None:
            await self._session.close()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's lines of one event."""
        found = []
        for line in self.log.read_text("utf-8", "replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("event") == name:
                found.append(entry)
        return found

    def tail(self, lines: int = 40) -> str:
        """The end of the log."""
        kept = [
            line for line in self.log.read_text("utf-8", "replace").splitlines() if '"event": "request"' not in line
        ]
        return "\n".join(kept[-lines:])


def descendants(pid: int) -> list[int]:
    """All processes below `pid`."""
    parents: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            parents.setdefault(parent, []).append(int(name))
    found: list[int] = []
    queue = [pid]
    while queue:
        below = parents.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@asynccontextmanager
async def life(place: Path, *, bucket: Mapping[str, str], **variables: str) -> AsyncIterator[Daemon]:
    """A daemon that has been started, and is gone afterwards."""
    daemon = Daemon(place, bucket=bucket, **variables)
    await daemon.start()
    try:
        yield daemon
    finally:
        await daemon.close()
