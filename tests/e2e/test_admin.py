"""The admin API of a whole daemon, with the echo agent."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
from pathlib import Path

import aiohttp

from tests.support.daemon import Daemon, life
from tests.support.s3 import Bucket


async def history(daemon: Daemon) -> list[str]:
    status, document = await daemon.get("/history")
    assert status == 200
    return list(document["history"])


async def test_an_operator_runs_the_agent_by_the_api(bucket: Bucket, tmp_path: Path) -> None:
    async with life(tmp_path / "a", bucket=bucket.settings(), MOLTINIT_AGENT="echo") as daemon:
        await daemon.ready()
        await daemon.post("/say", {"text": "one"})

        # A sync is a commit, and the storage says when.
        code, synced = await daemon.post("/api/admin/storage/sync")
        assert (code, synced["success"]) == (200, True)
        _, storage = await daemon.get("/api/admin/storage")
        assert (storage["configured"], storage["lastSync"]) == (True, synced["lastSync"])
        assert "missing" not in storage

        # Stopped, it stays down, and a restore leaves it so.
        code, stopped = await daemon.post("/api/admin/agent/stop")
        assert (code, stopped["state"]) == (200, "stopped")
        assert (await daemon.get("/readyz"))[0] == 503
        await daemon.post("/api/admin/restore", {"snapshot": synced["sequence"]})
        assert (await daemon.status())["agent"]["state"] == "stopped"
        code, started = await daemon.post("/api/admin/agent/start")
        assert (code, started["state"]) == (200, "healthy")
        assert await history(daemon) == ["one"]

        # A restart is over when the new one answers.
        code, restarted = await daemon.post("/api/admin/gateway/restart")
        assert (code, restarted["previousProcessId"]) == (200, str(started["pid"]))
        assert await history(daemon) == ["one"]

        await _maintenance(daemon)

        code, refused = await daemon.get("/api/admin/devices")
        assert (code, refused["error"]) == (409, "this agent (echo) has no devices")
        _, config = await daemon.get("/api/admin/config")
        values = {row["name"]: row["value"] for row in config["settings"]}
        assert values["MOLTINIT_AGENT"] == "echo"
        assert bucket.settings()["AWS_SECRET_ACCESS_KEY"] not in json.dumps(config)

        await _audited(daemon)


async def _maintenance(daemon: Daemon) -> None:
    """What ends in maintenance stays down, is saved nevertheless, and comes back with its end."""
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        switch = daemon.url + "/api/admin/maintenance"
        async with session.put(switch, json={"on": True, "reason": "a look"}) as answer:
            assert (await answer.json())["on"] is True
        os.kill((await daemon.status())["agent"]["pid"], signal.SIGKILL)
        status = await daemon.until(
            "it is left alone", "/status", lambda code, s: code == 200 and s["agent"]["state"] == "held"
        )
        assert [problem["code"] for problem in status["problems"]] == ["maintenance"]
        before = status["snapshots"]["last"]["sequence"]
        (daemon.agent_home / "note.txt").write_text("written in maintenance")
        await daemon.committed(after=before)
        async with session.put(switch, json={"on": False}) as answer:
            assert (await answer.json())["on"] is False
        await daemon.ready()


async def _audited(daemon: Daemon) -> None:
    """Every change is in the audit log, on the disk and in the daemon's own log."""
    _, audit = await daemon.get("/api/admin/audit?limit=3")
    assert [(entry["method"], entry["route"], entry["outcome"]) for entry in audit["entries"]] == [
        ("PUT", "/api/admin/maintenance", "done"),
        ("PUT", "/api/admin/maintenance", "done"),
        ("POST", "/api/admin/gateway/restart", "done"),
    ]
    assert all(entry["who"] not in ("", "unknown") for entry in audit["entries"])
    file = daemon.place / "moltinit" / "logs" / "audit.jsonl"
    assert [json.loads(line) for line in file.read_text().splitlines()][-3:] == audit["entries"][::-1]
    assert len(daemon.events("audit")) == len(file.read_text().splitlines())
    assert not file.is_relative_to(daemon.agent_home)


async def test_a_snapshot_is_downloaded_without_restoring_it(tmp_path: Path) -> None:
    bucket = {"MOLTINIT_BUCKET_URL": f"file://{tmp_path / 'bucket'}"}
    async with (
        life(tmp_path / "a", bucket=bucket, MOLTINIT_AGENT="echo") as daemon,
        aiohttp.ClientSession() as session,
    ):
        await daemon.ready()
        large = os.urandom(20 << 20)
        (daemon.agent_home / "large").write_bytes(large)
        with open(os.fsencode(daemon.agent_home) + b"/od\xffd", "wb") as odd:
            odd.write(b"odd")
        _, taken = await daemon.post("/api/admin/snapshots")
        api = f"{daemon.url}/api/admin/snapshots/{taken['sequence']}"
        async with session.get(f"{api}/files/large") as answer:
            assert await answer.read() == large
        async with session.get(f"{api}/files", params={"path": "od\\xffd"}) as answer:
            assert await answer.read() == b"odd"
        async with session.get(f"{api}/tar") as answer:
            archive = tarfile.TarFile(fileobj=io.BytesIO(await answer.read()), errors="surrogateescape")
        assert {".echo", "large", "od\udcffd"} <= set(archive.getnames())
        member = archive.extractfile("large")
        assert member is not None
        assert member.read() == large

        # What was printed is followed to the end of the daemon's life.
        async with session.get(daemon.url + "/api/admin/logs/stream?contains=STARTED") as stream:
            assert b"retry" in await stream.content.readline()
            daemon.signal(signal.SIGTERM)
            said = (await stream.content.read()).decode()
        assert "started echo" in said
        assert "event: end" in said
        assert await daemon.wait() == 0
