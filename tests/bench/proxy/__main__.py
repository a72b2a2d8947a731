"""`python -m tests.bench.proxy [--small]`: a table, and .cache/bench-proxy.json.

Each measure goes round the ways in turns, so that all see the same machine. The agent is the echo agent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.proxy.clients import connect, download, echo, exchange, upgrade, upload
from tests.bench.proxy.ways import Way, ways

GET = b"GET /startupz HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n"
POST = b"POST /count HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024

Results = dict[str, dict[str, float]]


def latency(
    ways: list[Way], rounds: int, open_: Callable[[int], object], once: Callable[..., float], *more: bytes
) -> Results:
    """Milliseconds, median and 99th percentile, on one kept connection for each way."""
    connections = {way.name: open_(way.port) for way in ways}
    samples: dict[str, list[float]] = {way.name: [] for way in ways}
    used = {way.name: way.cpu_seconds() for way in ways}
    for turn in range(rounds + 50):
        for name, connection in connections.items():
            seconds = once(connection, *more)
            if turn >= 50:
                samples[name].append(seconds * 1000)
    cost = {way.name: (way.cpu_seconds() - used[way.name]) * 1000 / (rounds + 50) for way in ways}
    for connection in connections.values():
        connection.close()  # type: ignore[attr-defined]
    return {
        name: {"median": statistics.median(found), "p99": statistics.quantiles(found, n=100)[98], "cpu": cost[name]}
        for name, found in samples.items()
    }


def requests_per_second(ways: list[Way], seconds: float, clients: int = 8) -> Results:
    """Requests a second of a few clients at once."""

    def run(port: int, until: float, done: list[int]) -> None:
        with connect(port) as connection:
            count = 0
            while time.perf_counter() < until:
                exchange(connection, GET)
                count += 1
        done.append(count)

    results: Results = {}
    for way in ways:
        done: list[int] = []
        until = time.perf_counter() + seconds
        threads = [threading.Thread(target=run, args=(way.port, until, done)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        results[way.name] = {"rate": sum(done) / seconds}
    return results


def bulk(ways: list[Way], size: int, runs: int, carry: Callable[[int, int], float]) -> Results:
    """MiB a second, the median of a few runs."""
    samples: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(runs):
        for way in ways:
            samples[way.name].append(size / (1 << 20) / carry(way.port, size))
    return {name: {"rate": statistics.median(found)} for name, found in samples.items()}


def measure(found: list[Way], small: bool) -> dict[str, Results]:
    """Everything."""
    rounds, size, runs = (300, 64 << 20, 2) if small else (3000, 512 << 20, 5)
    return {
        "GET, ms": latency(found, rounds, connect, exchange, GET),
        "POST of 1 KiB, ms": latency(found, rounds, connect, exchange, POST),
        "WebSocket echo of 512 bytes, ms": latency(found, rounds, upgrade, echo),
        "GET, 8 clients, requests/s": requests_per_second(found, 1.0 if small else 4.0),
        "download, MiB/s": bulk(found, size, runs, download),
        "upload, MiB/s": bulk(found, size, runs, upload),
    }


def table(results: dict[str, Results]) -> str:
    """As Markdown."""
    names = list(next(iter(results.values())))
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for what, by_way in results.items():
        direct = by_way["direct"]
        cells = []
        for name in names:
            got = by_way[name]
            if "median" in got:
                text = f"{got['median']:.2f}, p99 {got['p99']:.2f}"
                if name != "direct":
                    text += f" (+{got['median'] - direct['median']:.2f}, +{got['p99'] - direct['p99']:.2f};"
                    text += f" {got['cpu']:.2f} of CPU)"
            else:
                text = f"{got['rate']:,.0f}"
                if name != "direct":
                    text += f" ({got['rate'] / direct['rate']:.2f})"
            cells.append(text)
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


async def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.proxy", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a few seconds, to see that it works")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-proxy-") as place:
        async with ways(Path(place)) as found:
            results = await asyncio.to_thread(measure, found, arguments.small)
    print(table(results))
    kept = Path(".cache/bench-proxy.json")
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
