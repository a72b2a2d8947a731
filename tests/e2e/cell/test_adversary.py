"""An injected agent beside a daemon that works: all that `tests.support.adversary` tries, run with the agent's own
rights in the same cell. The whole play is acted once; each attempt is a test."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from supervisor.quarters import move_in
from supervisor.settings import load
from supervisor.snapshot.zstd import ZstdDecompressor, ZstdError
from tests.support import adversary
from tests.support.cell import act, in_memory
from tests.support.daemon import Daemon, life
from tests.support.s3 import Bucket, MotoServer, bucket_on

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

PROJECT = Path(__file__).parents[3]
MAX_PROCESSES = 150
DISK_MIB = 24
BESIDE = "plant_databases_for_the_snapshot_reader"
LATER = ("plant_a_link_for_the_restorer", "find_the_secrets_anywhere", "fill_the_disk")
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass
class Play:
    """What came of it."""

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    snapshots_after: list[int] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    restored_work: str = ""
    full: dict[str, Any] = field(default_factory=dict)
    in_memory: list[str] = field(default_factory=list)
    in_bucket: list[str] = field(default_factory=list)
    stored: bytes = b""
    exit_code: int | None = None
    end_of_log: str = ""
    history: list[str] = field(default_factory=list)


class Stage:
    """The machine that it happens on: a small disk for the agent, and things that lie about."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.disk = place / "disk"
        self.open_to_all = place / "open"
        self.config = place / "config.toml"
        self.root_only = place / "root-only.txt"
        self.secrets = {
            "MOLTINIT_OPERATOR_TOKEN": "operator-" + os.urandom(12).hex(),
            "TELEGRAM_BOT_TOKEN": "1234:telegram-" + os.urandom(12).hex(),
            "ANTHROPIC_API_KEY": "sk-ant-" + os.urandom(12).hex(),
            "CDP_SECRET": "cdp-" + os.urandom(12).hex(),
        }

    def __enter__(self) -> Stage:
        for directory in (self.disk, self.open_to_all):
            directory.mkdir(parents=True)
        for directory in (self.place.parent, self.place, self.open_to_all):
            directory.chmod(0o755)
        self.open_to_all.chmod(0o777)
        (self.open_to_all / "readable.txt").write_text(self.secrets["CDP_SECRET"])
        self.config.write_text(f'operator_token = "{self.secrets["MOLTINIT_OPERATOR_TOKEN"]}"\n')
        self.config.chmod(0o644)
        self.root_only.write_text(self.secrets["TELEGRAM_BOT_TOKEN"])
        self.root_only.chmod(0o600)
        size = f"size={DISK_MIB}m,mode=755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(self.disk)], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self.disk)], check=False)


async def play(stage: Stage, bucket: Bucket) -> Play:
    variables = {
        **{name: value for name, value in stage.secrets.items() if name != "MOLTINIT_OPERATOR_TOKEN"},
        "MOLTINIT_AGENT": "echo",
        "MOLTINIT_AUTH": "none",
        "WORKER_URL": "https://agent.example",
        "MOLTINIT_CONFIG": str(stage.config),
        "MOLTINIT_AGENT_MAX_PROCESSES": str(MAX_PROCESSES),
    }
    home = stage.disk / "home"
    async with life(stage.place / "vm", bucket=bucket.settings(), MOLTINIT_AGENT_HOME=str(home), **variables) as daemon:
        await daemon.ready()
        ended = await _with_daemon(stage, daemon, home, bucket)
        ended.exit_code = await daemon.stop()
        ended.end_of_log = daemon.tail(30)
    async with life(stage.place / "next", bucket=bucket.settings(), **variables) as daemon:
        await daemon.ready()
        ended.history = (await daemon.get("/history"))[1]["history"]
    ended.stored = _stored(bucket)
    ended.in_bucket = [secret for secret in ended.secrets if secret.encode() in ended.stored]
    return ended


async def _with_daemon(stage: Stage, daemon: Daemon, home: Path, bucket: Bucket) -> Play:
    settings = load(daemon.variables, cwd=stage.place, is_root=True)
    quarters = move_in(settings)
    cell = quarters.cell(lambda findings: None)
    uid = quarters.user.uid
    await daemon.post("/say", {"text": "before"})
    work = home / "work"
    work.mkdir()
    (work / "file.txt").write_text("kept")
    id_ = home / "set-user-id"
    shutil.copy("/usr/bin/id", id_)
    for path in (work, work / "file.txt"):
        os.chown(path, uid, uid)
    id_.chmod(0o4755)
    _, first = await daemon.post("/api/admin/snapshots")
    facts = _facts(stage, daemon, home, uid, bucket)
    ended = Play(secrets=tuple(_secrets(stage, bucket)), before=await daemon.status())
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + facts["abstract"])
        abstract.listen()
        names = [name for name in adversary.ATTEMPTS if name not in (*LATER, BESIDE)]
        ended.results.update(await act(cell, names, facts, home))
    swapping = asyncio.create_task(act(cell, [BESIDE], facts, home))
    for _ in range(6):
        assert (await daemon.post("/api/admin/snapshots"))[0] == 200, daemon.tail()
        await asyncio.sleep(0.5)
    ended.results.update(await swapping)
    ended.after = await daemon.status()
    ended.snapshots_after = [one["sequence"] for one in (await daemon.get("/api/admin/snapshots"))[1]["snapshots"]]
    ended.results.update(await act(cell, LATER[:2], facts, home))
    ended.in_memory = in_memory(daemon.pid, ended.secrets, uid)

    assert (await daemon.post("/api/admin/restore", {"snapshot": first["sequence"]}))[0] == 200, daemon.tail()
    ended.outside = sorted(os.listdir(stage.open_to_all))
    ended.restored_work = (work / "file.txt").read_text() if not work.is_symlink() else "a link"
    await daemon.ready()
    await daemon.saved()

    ended.results.update(await act(cell, LATER[2:], facts, home))
    await asyncio.sleep(2)
    ended.full = await daemon.status()
    (home / ".cache" / "filling").unlink()
    await daemon.ready()
    await daemon.post("/say", {"text": "after"})
    await daemon.saved()
    return ended


def _facts(stage: Stage, daemon: Daemon, home: Path, uid: int, bucket: Bucket) -> dict[str, Any]:
    own = Path(daemon.variables["MOLTINIT_HOME"])
    files = [own / name for name in ("daemon.json", "lock", "id", "restored.json")]
    files += [path for path in (own / "logs").iterdir() if path.is_file()]
    return {
        "supervisor": daemon.pid,
        "uid": uid,
        "port": daemon.port,
        "agent_home": str(home),
        "supervisors_files": [str(path) for path in (*files, stage.config)],
        "supervisors_directories": [str(path) for path in (own, own / "logs", own / "scratch", stage.place)],
        "readable_by_root": [str(stage.root_only), str(stage.config)],
        "open_to_all": str(stage.open_to_all),
        "program": [str(PROJECT), str(PROJECT / "supervisor"), str(PROJECT / "agent_runtime")],
        "set_user_id": str(home / "set-user-id"),
        "abstract": f"moltinit-test-{daemon.pid}",
        "max_processes": MAX_PROCESSES,
        "swap_seconds": 4,
        "search": [str(stage.place), str(PROJECT / "docs")],
        "needles_reversed": [secret[::-1] for secret in _secrets(stage, bucket)],
        "operator_requests": [
            ["GET", "/status", ""],
            ["GET", "/metrics", ""],
            ["GET", "/api/admin/snapshots", ""],
            ["GET", "/api/admin/logs", ""],
            ["POST", "/api/admin/snapshots", '{"note": "the agent was here"}'],
            ["POST", "/api/admin/restore", '{"snapshot": 1}'],
            ["POST", "/api/admin/restore/undo", "{}"],
            ["DELETE", "/api/admin/snapshots/1", ""],
            ["POST", "/api/admin/gateway/restart", "{}"],
        ],
    }


def _secrets(stage: Stage, bucket: Bucket) -> list[str]:
    keys = bucket.settings()
    return [*stage.secrets.values(), keys["AWS_SECRET_ACCESS_KEY"], keys["AWS_ACCESS_KEY_ID"]]


def _stored(bucket: Bucket) -> bytes:
    """Every byte in the bucket, packed and unpacked."""
    everything = bytearray()
    for key in bucket.keys(""):
        data = bucket.get(key)
        everything += data
        at = data.find(ZSTD_MAGIC)
        while at >= 0:
            with suppress(ZstdError):
                everything += ZstdDecompressor().decompress(data[at:], 1 << 26)
            at = data.find(ZSTD_MAGIC, at + 1)
    return bytes(everything)


@pytest.fixture(scope="module")
def played(s3: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    async def all_of_it(stage: Stage) -> Play:
        async with bucket_on(s3) as bucket:
            return await play(stage, bucket)

    with Stage(tmp_path_factory.mktemp("adversary")) as stage:
        yield asyncio.run(all_of_it(stage))


@pytest.mark.parametrize("name", list(adversary.ATTEMPTS))
def test_it_does_not_succeed_to(played: Play, name: str) -> None:
    result = played.results[name]
    assert "error" not in result
    assert result["won"] == []
    assert not [secret for secret in played.secrets for text in result["loot"] if secret in text]


def test_the_service_went_on(played: Play) -> None:
    assert played.after["phase"] == "serve"
    assert played.after["agent"]["pid"] == played.before["agent"]["pid"]
    assert played.after["agent"]["restarts"] == 0
    assert [problem["code"] for problem in played.after["problems"]] == []


def test_nothing_of_the_history_is_lost(played: Play) -> None:
    assert 1 in played.snapshots_after
    assert b"the agent was here" not in played.stored
    assert played.exit_code == 0, played.end_of_log
    assert played.history == ["before", "after"]


def test_a_restore_writes_nothing_through_a_planted_link(played: Play) -> None:
    assert played.outside == ["readable.txt"]
    assert played.restored_work == "kept"


def test_a_full_disk_leaves_the_daemon_and_its_snapshots_alone(played: Play) -> None:
    assert played.full["phase"] == "serve"
    assert played.full["snapshots"]["last"]["sequence"] >= played.after["snapshots"]["last"]["sequence"]


def test_no_secret_is_in_the_memory_of_the_agents_processes(played: Play) -> None:
    assert played.in_memory == []


def test_no_secret_is_in_the_bucket(played: Play) -> None:
    assert b"before" in played.stored, "the search sees what is packed"
    assert played.in_bucket == []


def test_every_measure_that_is_built_was_on(played: Play) -> None:
    states = {entry["measure"]: (entry["state"], entry["reason"]) for entry in played.after["isolation"]}
    built = (
        *("own-user", "no-capabilities", "no-new-privileges", "landlock", "resource-limits", "clean-environment"),
        *("supervisor-not-dumpable", "bucket-keys-hidden", "operator-paths-closed"),
    )
    assert {name: states[name] for name in built} == dict.fromkeys(built, ("on", ""))
