"""`make bench-image`: a first start in a new container, restore included, beside a bare gateway's in the same image.

Both from `podman run` to the gateway's `/startupz` 200, in turns, so that both see the same machine; before each, the
image's files are put out of the page cache, as on a machine that has just got it. The bare gateway starts as it would
without moltinit: no state, no compile cache, nothing warmed. Prints the sizes of the image's parts, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import aiohttp

from tests.support.container import HARDENED, IMAGE, Container, podman
from tests.support.daemon import free_port
from tests.support.s3 import bucket_on, moto_server

ROUNDS = int(os.environ.get("ROUNDS", "3"))
KEY = {"ANTHROPIC_API_KEY": "sk-ant-stand-in-0123456789"}

BARE = """
set -e
mkdir -p "$OPENCLAW_STATE_DIR" "$TMPDIR"
cat > "$OPENCLAW_STATE_DIR/openclaw.json" <<END
{"gateway": {"mode": "local", "port": $PORT, "bind": "loopback",
  "auth": {"mode": "token", "token": "0123456789abcdef"}},
 "update": {"checkOnStart": false}, "discovery": {"mdns": {"mode": "off"}}}
END
exec node /opt/openclaw/node_modules/openclaw/openclaw.mjs gateway run --port "$PORT"
"""

PARTS = {
    "OpenClaw": "/opt/openclaw/node_modules/openclaw",
    "its dependencies": "/opt/openclaw/node_modules",
    "Node": "/opt/openclaw/node_modules/node-linux-*",
    "npm": "/opt/openclaw/node_modules/npm",
    "compile cache": "/opt/openclaw/compile-cache",
    "moltinit with its Python packages": "/opt/moltinit",
    "all": "/",
}


async def started(port: int, since: float) -> float:
    """Seconds until the gateway says that it has started."""
    async with aiohttp.ClientSession() as session:
        while time.monotonic() - since < 300:
            with suppress(aiohttp.ClientError, OSError, ValueError):
                async with session.get(f"http://127.0.0.1:{port}/startupz") as answer:
                    if answer.status == 200 and json.loads(await answer.text()).get("status") == "started":
                        return time.monotonic() - since
            await asyncio.sleep(0.05)
    raise SystemExit("the gateway did not start within 300 s")


def evict(root: str) -> None:
    """Put the image's files out of the page cache; nobody else's."""
    for folder, _, names in os.walk(root):
        for name in names:
            with suppress(OSError):
                descriptor = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)


async def bare() -> float:
    """A first start of the gateway alone."""
    port = free_port()
    name = f"moltinit-bench-{port}"
    settings = {
        "PORT": str(port),
        "HOME": "/var/lib/moltinit/agent",
        "OPENCLAW_STATE_DIR": "/var/lib/moltinit/agent/.openclaw",
        "TMPDIR": "/var/lib/moltinit/tmp",
        "OPENCLAW_NO_RESPAWN": "1",
        "OPENCLAW_DISABLE_BONJOUR": "1",
        **KEY,
    }
    options = [f"--env={key}={value}" for key, value in settings.items()]
    since = time.monotonic()
    code, output = await podman(
        "run", "--detach", f"--name={name}", "--network=host", *HARDENED, *options,
        "--entrypoint=/bin/sh", IMAGE, "-c", BARE,
    )  # fmt: skip
    assert code == 0, output
    try:
        return await started(port, since)
    finally:
        await podman("rm", "--force", "--time=0", name)


async def main() -> int:
    _, sizes = await podman(
        "run", "--rm", "--network=none", "--entrypoint=/bin/sh", IMAGE, "-c",
        f"du -smxc {' '.join(PARTS.values())} | sort -u",
    )  # fmt: skip
    print(sizes)
    _, root = await podman("image", "mount", IMAGE)
    ours, theirs = [], []
    try:
        with moto_server() as server, tempfile.TemporaryDirectory() as scratch:
            async with bucket_on(server) as bucket:
                for number in range(ROUNDS + 1):
                    place = Path(scratch) / str(number)
                    life = Container(place, bucket=bucket.settings(), options=HARDENED, **KEY)
                    await asyncio.to_thread(evict, root.strip())
                    try:
                        await life.start()
                        seconds = await started(int(life.variables["MOLTINIT_AGENT_PORT"]), life.started_at)
                        await life.ready()
                        await life.saved()
                        await life.stop()
                    finally:
                        await life.close()
                    if number == 0:
                        continue  # the life that made the state
                    ours.append(seconds)
                    await asyncio.to_thread(evict, root.strip())
                    theirs.append(await bare())
                    print(f"under moltinit {ours[-1]:.1f} s, bare {theirs[-1]:.1f} s", flush=True)
    finally:
        await podman("image", "unmount", IMAGE)
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"median {statistics.median(ours):.1f} s against {statistics.median(theirs):.1f} s: {ratio:.2f} (goal 0.85)")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
