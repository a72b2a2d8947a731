"""`python -m tests.bench [NAME ...]`: run the benchmarks, print a table, write bench.json.

Every figure is the median of a few runs on a real S3 server on this machine; the gateway's time to ready is a ratio
against a bare gateway on the same state, started by hand in turns with moltinit's, so that both see the same machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from agent_runtime.contract import AgentSettings
from agent_runtime.openclaw.config import configure
from agent_runtime.openclaw.runtime import OpenClaw
from tests.support.daemon import Daemon, free_port
from tests.support.s3 import Bucket, bucket_on, moto_server

PROJECT = Path(__file__).parents[2]
RUNS = 5
GATEWAY_RUNS = 5
IDLE_SECONDS = 60.0


def openclaw() -> Path:
    """The gateway's program."""
    named = os.environ.get("MOLTINIT_OPENCLAW_BIN")
    return Path(named) if named else PROJECT / ".cache/openclaw/node_modules/openclaw/openclaw.mjs"


class Bench:
    """One run of all benchmarks."""

    def __init__(self, bucket: Bucket, place: Path) -> None:
        self.bucket = bucket
        self.place = place
        self.results: dict[str, Any] = {}
        self._lives = 0

    def daemon(self, **variables: str) -> Daemon:
        """A VM of its own, with the agent's home at the same place in every life."""
        self._lives += 1
        common = {
            "MOLTINIT_AGENT_HOME": str(self.place / "home"),
            "MOLTINIT_OPENCLAW_BIN": str(openclaw()),
            "ANTHROPIC_API_KEY": "sk-ant-stand-in-0123456789",
        }
        # Past the proxy, unless its counters are wanted: it would be measured along.
        bucket = {**self.bucket.settings(), "MOLTINIT_S3_ENDPOINT_URL": self.bucket.server.url}
        return Daemon(self.place / f"vm{self._lives}", bucket=bucket, **{**common, **variables})

    async def livez(self) -> None:
        """Seconds from exec to the first answer of `/livez`."""
        seconds = []
        for _ in range(RUNS):
            daemon = self.daemon(MOLTINIT_AGENT="echo", MOLTINIT_AGENT_HOME=str(self.place / "echo"))
            await daemon.start()
            try:
                seconds.append(
                    await answered(daemon.started_at, daemon.url + "/livez", lambda status, _: status == 200)
                )
            finally:
                await daemon.close()
        self._note("exec to /livez (s)", statistics.median(seconds), "goal 0.5", seconds)

    async def latency(self) -> None:
        """Seconds from a write in the agent's home to the commit of a snapshot that holds it."""
        self.bucket.prefix = "latency"
        home = self.place / "echo-latency"
        daemon = self.daemon(MOLTINIT_AGENT="echo", MOLTINIT_AGENT_HOME=str(home))
        await daemon.start()
        seconds = []
        try:
            await daemon.ready()
            await daemon.committed(after=0)
            for number in range(10):
                await asyncio.sleep(3.1 + 0.3 * number)
                before = (await daemon.status())["snapshots"]["last"]["sequence"]
                (home / f"note-{number}").write_text("x")
                written = time.time()
                seconds.append((await daemon.committed(after=before))["committed_at"] - written)
        finally:
            await daemon.close()
        self._note("write to committed snapshot (s)", statistics.median(seconds), "goal 3", seconds)
        self._note("write to committed snapshot, worst (s)", max(seconds), "goal 3", seconds)

    async def ready(self) -> None:
        """The gateway's time to ready under moltinit, restore included, against a bare gateway on the same state."""
        self.bucket.prefix = "ready"
        await self._lived_before()
        bare, under = [], []
        for _ in range(GATEWAY_RUNS):
            self._fresh_home()
            bare.append(await self._bare_gateway())
            shutil.rmtree(self.place / "home")
            under.append(await self._under_moltinit())
        self._note("gateway ready, bare (s)", statistics.median(bare), "", bare)
        self._note("gateway ready, under moltinit with restore (s)", statistics.median(under), "", under)
        ratios = [ours / theirs for ours, theirs in zip(under, bare, strict=True)]
        self._note("ratio", statistics.median(under) / statistics.median(bare), "goal 1.05", ratios)

    async def _lived_before(self) -> None:
        """A state that has been through its first start, in the bucket and in a directory."""
        daemon = self.daemon()
        await daemon.start()
        try:
            await daemon.ready()
            await asyncio.sleep(5)
            assert await daemon.stop() == 0
        finally:
            await daemon.close()
        self._scratch = daemon.place / "moltinit" / "scratch" / "agent"
        shutil.copytree(self.place / "home", self.place / "state", symlinks=True)

    def _fresh_home(self) -> None:
        shutil.rmtree(self.place / "home", ignore_errors=True)
        shutil.copytree(self.place / "state", self.place / "home", symlinks=True)

    async def _bare_gateway(self) -> float:
        """The same command, environment and compile cache, with nothing around it."""
        port = free_port()
        runtime = OpenClaw(
            AgentSettings(
                self.place / "home",
                self._scratch,
                port,
                None,
                {"ANTHROPIC_API_KEY": "sk-ant-stand-in-0123456789"},
                openclaw(),
            )
        )
        configure(runtime._settings)
        runtime.sanitise()
        spec = runtime.launch()
        started = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *spec.argv,
            env=dict(spec.environment),
            cwd=spec.directory,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            return await answered(started, f"http://127.0.0.1:{port}/startupz", _started)
        finally:
            process.terminate()
            await process.wait()

    async def _under_moltinit(self) -> float:
        daemon = self.daemon()
        scratch = daemon.place / "moltinit" / "scratch" / "agent"
        scratch.parent.mkdir(parents=True)
        shutil.copytree(self._scratch, scratch)  # an image brings a warm compile cache, and so does the bare start
        await daemon.start()
        try:
            port = daemon.variables["MOLTINIT_AGENT_PORT"]
            seconds = await answered(daemon.started_at, f"http://127.0.0.1:{port}/startupz", _started)
            await daemon.ready()
            self.results["timings under moltinit (s)"] = (await daemon.status())["timings"]
            assert await daemon.stop() == 0
            return seconds
        finally:
            await daemon.close()

    async def idle(self) -> None:
        """Memory of the daemon, and its requests, while the real gateway idles."""
        self.bucket.prefix = "idle"
        daemon = self.daemon(MOLTINIT_S3_ENDPOINT_URL=self.bucket.endpoint_url)
        await daemon.start()
        try:
            await daemon.ready()
            await asyncio.sleep(20)
            await daemon.saved()
            before, cpu = self.bucket.requests.copy(), cpu_seconds(daemon.pid)
            await asyncio.sleep(IDLE_SECONDS)
            requests = self.bucket.requests - before
            self._note("daemon's resident memory, idle (MiB)", resident(daemon.pid) / 2**20, "goal 100", [])
            self._note("daemon's CPU, idle (% of a core)", 100 * (cpu_seconds(daemon.pid) - cpu) / IDLE_SECONDS, "", [])
            self._note("HEAD requests a minute, idle", requests["HEAD"], "the poll: 30", [])
            others = sum(requests.values()) - requests["HEAD"]
            self._note("other requests a minute, idle", others, "goal 0", [])
        finally:
            await daemon.close()

    def _note(self, name: str, value: float, goal: str, samples: list[float]) -> None:
        self.results[name] = {"value": round(value, 3), "goal": goal, "samples": [round(item, 3) for item in samples]}
        print(f"{name:<55} {value:>8.3f}  {goal}", flush=True)


def _started(status: int, document: Any) -> bool:
    return status == 200 and isinstance(document, dict) and document.get("status") == "started"


async def answered(started: float, url: str, good: Callable[[int, Any], bool]) -> float:
    """Seconds since `started` until the answer is good; asked every 10 ms."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        while time.monotonic() - started < 180:
            try:
                async with session.get(url) as answer:
                    body = await answer.read()
                    if good(answer.status, json.loads(body)):
                        return time.monotonic() - started
            except (aiohttp.ClientError, OSError, ValueError):
                pass
            await asyncio.sleep(0.01)
    raise AssertionError(f"{url} did not answer as it should")


def resident(pid: int) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """User and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def main(names: list[str]) -> int:
    """Run the benchmarks of these names, or all."""
    known: dict[str, Callable[[Bench], Awaitable[None]]] = {
        "livez": Bench.livez,
        "latency": Bench.latency,
        "ready": Bench.ready,
        "idle": Bench.idle,
    }
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    async with AsyncExitStack() as stack:
        server = stack.enter_context(moto_server())
        bucket = await stack.enter_async_context(bucket_on(server))
        place = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="moltinit-bench-", ignore_cleanup_errors=True))
        )
        bench = Bench(bucket, place)
        for name in names or list(known):
            shutil.rmtree(place / "home", ignore_errors=True)
            await known[name](bench)
    (PROJECT / ".cache").mkdir(exist_ok=True)
    (PROJECT / ".cache" / "bench.json").write_text(json.dumps(bench.results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
