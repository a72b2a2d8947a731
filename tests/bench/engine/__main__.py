"""`python -m tests.bench.engine [--small] [--rtt 30,0] [--only files|database] [--rgw] [--json FILE]`: the tables of
docs/performance.md."""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.engine.peers import SECRET, Peer, peers
from tests.bench.engine.workloads import Workload, workloads

PROJECT = Path(__file__).parents[3]
COLUMNS = ("first", "unchanged", "changed", "restore")
Cell = dict[str, Any]


@contextmanager
def server(module: str, *arguments: str) -> Iterator[int]:
    """A server of this package in a process of its own; its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.engine.{module}", *arguments],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


@contextmanager
def counting() -> Iterator[tuple[int, str]]:
    """The server in memory: its port, and where it tells what it counted."""
    with server("memory_s3") as port:
        yield port, f"http://127.0.0.1:{port}/-/counters"


@contextmanager
def ceph() -> Iterator[tuple[int, str]]:
    """A real server, with a bucket for each peer. It counts nothing."""
    from tests.support.rgw import rgw_server

    with rgw_server(memory=4 << 30, keys=("bench", SECRET)) as rgw:
        for name in ("moltinit", "rclone", "s5cmd", "restic"):
            rgw.client().create_bucket(Bucket=name)
        yield rgw.port, ""


class Run:
    """One workload at one latency."""

    def __init__(self, workload: Workload, counters: str, endpoint: str, place: Path) -> None:
        self.workload = workload
        self.endpoint = endpoint
        self.place = place
        self.root = place / "tree"
        self.rows: dict[str, dict[str, Cell]] = {}
        self._counters = counters

    def counters(self) -> dict[str, int]:
        """Since the last call; nothing where the server does not count."""
        if not self._counters:
            return {}
        with urllib.request.urlopen(self._counters, timeout=10) as answer:
            told: dict[str, int] = json.loads(answer.read())
            return told

    def measure(self, row: str, column: str, work: Callable[[], dict[str, Any] | None]) -> None:
        """Time some work, count its requests, say so."""
        os.sync()
        self.counters()
        started = time.perf_counter()
        told = work() or {}
        cell = {"seconds": time.perf_counter() - started, **told, **self.counters()}
        self.rows.setdefault(row, {})[column] = cell
        print(f"  {row}, {column}: {show(cell)}", file=sys.stderr, flush=True)

    def restored(self, row: str, work: Callable[[Path], dict[str, Any] | None]) -> None:
        """Time a restore, and compare what it brought with the tree."""
        target = self.place / "restored"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        self.measure(row, "restore", lambda: work(target))
        found = next((at for at in (target, target / str(self.root).lstrip("/")) if same(self.root, at)), None)
        if found is None:
            raise RuntimeError(f"what {row} restored is not what it saved")
        shutil.rmtree(target)

    def peer(self, peer: Peer) -> None:
        """All columns of one peer."""
        if not peer.there:
            print(f"  {peer.name}: not installed; {peer.install}", file=sys.stderr)
            return
        self.fresh()
        peer.begin()
        self.measure(peer.name, "first", lambda: peer.save(self.root))
        self.measure(peer.name, "unchanged", lambda: peer.save(self.root))
        self.workload.change(self.root)
        self.measure(peer.name, "changed", lambda: peer.save(self.root))
        self.restored(peer.name, peer.restore)

    def fresh(self) -> None:
        """The tree as it was at first."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.workload.make(self.root)
        time.sleep(0.1)

    def moltinit(self) -> None:
        """Inside of a daemon, and as whole processes."""
        self.fresh()
        with self.child("a", self.root) as ask:
            ask("claim")
            ask("bring_back")
            self.measure("moltinit, in the daemon", "first", lambda: ask("take"))
            time.sleep(1.1)
            self.measure("moltinit, in the daemon", "unchanged", lambda: ask("changed"))
            self.workload.change(self.root)
            time.sleep(0.1)
            self.measure("moltinit, in the daemon", "changed", lambda: ask("take"))
            ask("release")
        for row, only_restore in (("moltinit, in the daemon", True), ("moltinit, whole process", False)):
            home = self.place / f"home-{only_restore}"

            def restore(target: Path, home: Path = home, only_restore: bool = only_restore) -> dict[str, Any] | None:
                started = time.perf_counter()
                with self.child(home.name, target) as ask:
                    ask("claim")
                    answer = ask("bring_back")
                    whole = time.perf_counter() - started
                    ask("release")
                return answer if only_restore else {**answer, "seconds": whole, "cpu": answer["process_cpu"]}

            self.restored(row, restore)

        def save() -> dict[str, Any]:
            started = time.perf_counter()
            with self.child("home-first", self.root, prefix="second") as ask:
                ask("claim")
                ask("bring_back")
                answer = ask("take")
                return {**answer, "seconds": time.perf_counter() - started, "cpu": answer["process_cpu"]}

        self.measure("moltinit, whole process", "first", save)

    @contextmanager
    def child(self, home: str, root: Path, prefix: str = "tree") -> Iterator[Callable[[str], dict[str, Any]]]:
        """An engine in a process of its own."""
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.bench.engine.child",
                str(self.place / home),
                str(root),
                f"s3://moltinit/{prefix}-{self.workload.name}",
                self.endpoint,
            ],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(command: str) -> dict[str, Any]:
            stdin.write(command + "\n")
            stdin.flush()
            answer: dict[str, Any] = json.loads(stdout.readline())
            return answer

        try:
            yield ask
        finally:
            stdin.close()
            process.wait(30)
            stdout.close()


def same(left: Path, right: Path) -> bool:
    """The same names with the same content?"""
    if not right.is_dir():
        return False
    compared = filecmp.dircmp(left, right, ignore=[f"state.sqlite{end}" for end in ("", "-wal", "-shm")])
    if compared.left_only or compared.right_only or compared.funny_files:
        return False
    if (left / "state.sqlite").exists() and rows(left / "state.sqlite") != rows(right / "state.sqlite"):
        return False
    _, different, errors = filecmp.cmpfiles(left, right, compared.common_files, shallow=False)
    return not different and not errors and all(same(left / name, right / name) for name in compared.common_dirs)


def rows(path: Path) -> str:
    """A digest of what a database says: its bytes may differ in counters."""
    digest = hashlib.sha256()
    connection = sqlite3.connect(path)
    try:
        for row in connection.execute("SELECT * FROM message ORDER BY id"):
            digest.update(repr(row).encode())
    finally:
        connection.close()
    return digest.hexdigest()


def show(cell: Cell | None) -> str:
    """A cell of the table."""
    if cell is None:
        return "-"
    rss = f", {cell['rss'] / 2**20:.0f} MiB RSS" if "rss" in cell else ""
    lag = f", loop held up {1000 * cell['lag']:.0f} ms" if "lag" in cell else ""
    cpu = f", {cell['cpu']:.2f} s of CPU" if "cpu" in cell else ""
    if "A" not in cell:
        return f"{cell['seconds']:.2f} s{cpu}{rss}{lag}"
    a, b = cell["A"], cell["B"]
    moved = max(cell.get("up", 0), cell.get("down", 0))
    size = f"{moved / 2**20:.1f} MiB" if moved >= 1 << 20 else f"{moved / 1024:.0f} KiB"
    return f"{cell['seconds']:.2f} s, {a} A, {b} B, {size}{cpu}{rss}{lag}"


def tables(results: dict[str, dict[str, dict[str, Cell]]]) -> str:
    """Markdown."""
    lines = []
    for title, rows in results.items():
        lines += [f"\n| {title} | {' | '.join(COLUMNS)} |", "|" + "---|" * (len(COLUMNS) + 1)]
        lines += [
            f"| {name} | {' | '.join(show(row.get(column)) for column in COLUMNS)} |" for name, row in rows.items()
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure everything that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--rtt", default="30,0", help="milliseconds of a round trip")
    parser.add_argument("--only", default="")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--rgw", action="store_true", help="on Ceph's gateway, a real server that counts no requests")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    results: dict[str, dict[str, dict[str, Cell]]] = {}
    for rtt in asked.rtt.split(","):
        for workload in workloads(small=asked.small):
            if asked.only not in ("", workload.name):
                continue
            title = f"{workload.name}, {rtt} ms{', Ceph RGW' if asked.rgw else ''}"
            print(title, file=sys.stderr)
            with (
                tempfile.TemporaryDirectory(prefix="moltinit-bench-") as place,
                (ceph if asked.rgw else counting)() as (s3_port, counters),
                server("latency", str(s3_port), rtt) as port,
            ):
                endpoint = f"http://127.0.0.1:{port if float(rtt) else s3_port}"
                run = Run(workload, counters, endpoint, Path(place))
                run.moltinit()
                for peer in () if asked.no_peers else peers(endpoint, Path(place), signed_only=asked.rgw):
                    run.peer(peer)
                results[title] = run.rows
    print(tables(results))
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
