"""moltinit's engine as the daemon runs it, driven by lines on standard input:
`python -m tests.bench.engine.child HOME ROOT`.

`boot` claims and brings the tree back, `take` saves, `changed` looks, `release` lets go. Each answers with a line of
JSON: the seconds that it took inside this process.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from supervisor.assembly import new_id
from supervisor.clock import SystemClock
from supervisor.snapshot.claim import Identity
from supervisor.snapshot.engine import Engine
from supervisor.snapshot.local import LocalDisk
from supervisor.snapshot.repository import Repository
from supervisor.snapshot.rules import Classes, SkipRules
from supervisor.store.open import BucketLocation, open_store


def spent() -> float:
    """Seconds of CPU of this process and those that it started and that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


async def beat(worst: list[float]) -> None:
    """How long the event loop was kept from its other work at most."""
    while True:
        asked = time.perf_counter()
        await asyncio.sleep(0.005)
        worst[0] = max(worst[0], time.perf_counter() - asked - 0.005)


async def main(home: Path, root: Path, location: BucketLocation) -> None:
    """Until standard input ends."""
    clock = SystemClock()
    store = open_store(location, clock=clock)
    disk = LocalDisk(home, new_id)
    engine = Engine(
        repository=Repository(store, clock, new_id),
        store=store,
        disk=disk,
        root=root,
        rules=SkipRules(()),
        classes=Classes(()),
        identity=Identity(new_id(), disk.id, "host", "bench", "1"),
        clock=clock,
        new_id=new_id,
    )

    async def step(command: str) -> dict[str, Any]:
        if command == "claim":
            return {"epoch": (await engine.claim()).epoch}
        if command == "bring_back":
            back = await engine.bring_back()
            return {"origin": back.origin, "requests": back.requests}
        if command == "changed":
            return {"changed": await engine.changed()}
        if command == "take":
            taken = await engine.take("change", compact=True)
            return {"capture": taken.capture_seconds, "uploaded": taken.uploaded_bytes}
        if command == "release":
            await engine.release()
        return {}

    try:
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            started, cpu = time.perf_counter(), spent()
            lag = [0.0]
            heart = asyncio.create_task(beat(lag))
            answer = await step(line)
            heart.cancel()
            answer["lag"] = lag[0]
            answer |= {"seconds": time.perf_counter() - started, "cpu": spent() - cpu, "process_cpu": spent()}
            answer["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps(answer), flush=True)
    finally:
        engine.close()
        await store.close()


if __name__ == "__main__":
    _, _home, _root, _url, _endpoint = sys.argv
    asyncio.run(
        main(
            Path(_home),
            Path(_root),
            BucketLocation(
                url=_url,
                endpoint_url=_endpoint,
                region="auto",
                access_key_id="bench",
                secret_access_key="bench-secret",
                session_token=None,
            ),
        )
    )
