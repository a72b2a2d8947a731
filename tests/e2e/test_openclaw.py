"""Whole lives with the real gateway, a real S3 server, and a stand-in for the model."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_runtime.openclaw.rpc import Rpc, RpcError
from tests.support.daemon import Daemon, life
from tests.support.gateway_device import DeviceRpc
from tests.support.model_server import ModelServer, model_server
from tests.support.s3 import Bucket

pytestmark = [pytest.mark.gateway, pytest.mark.timeout(400)]

SESSION = "agent:main:main"
TURN_SECONDS = 90.0


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with model_server() as server:
        yield server


@asynccontextmanager
async def gateway(
    place: Path, bucket: Bucket, openclaw: Path, model: ModelServer, **variables: str
) -> AsyncIterator[Daemon]:
    async with life(
        place,
        bucket=bucket.settings(),
        MOLTINIT_OPENCLAW_BIN=str(openclaw),
        # The same place in every life, as in a VM that is made from one image.
        MOLTINIT_AGENT_HOME=str(place.parent / "home"),
        ANTHROPIC_API_KEY="sk-ant-stand-in-0123456789",
        ANTHROPIC_BASE_URL=model.url,
        **variables,
    ) as daemon:
        yield daemon


def rpc(daemon: Daemon) -> Rpc:
    """The gateway's protocol, through the front door."""
    return Rpc(f"ws://127.0.0.1:{daemon.port}/", None)


async def talk(daemon: Daemon, text: str) -> str:
    """One turn; the agent's answer."""
    async with asyncio.timeout(TURN_SECONDS), rpc(daemon) as connection:
        parameters = {"sessionKey": SESSION, "message": text, "idempotencyKey": str(uuid.uuid4())}
        run = await connection.call("chat.send", parameters)
        while True:
            event = await connection.event("chat")
            if event.get("runId") == run["runId"] and event.get("state") in ("final", "error", "aborted"):
                return json.dumps(event.get("message") or event)


async def history(daemon: Daemon) -> str:
    async with asyncio.timeout(30), rpc(daemon) as connection:
        return json.dumps(await connection.call("chat.history", {"sessionKey": SESSION}))


def next_vm(place: Path) -> None:
    """The disk is gone."""
    shutil.rmtree(place / "home", ignore_errors=True)


async def test_the_next_life_carries_on_the_conversation(
    bucket: Bucket, openclaw: Path, model: ModelServer, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", bucket, openclaw, model) as first:
        await first.ready()
        for mark in ("MARK-one", "MARK-two"):
            assert "HEARD" in await talk(first, f"remember {mark}")
        code, activity = await first.get("/api/admin/activity")
        assert (code, activity["known"], activity["busy"]) == (200, True, False), activity
        assert activity["next_wake"] > time.time(), "its heartbeat is a job that is due"
        workspace = first.agent_home / ".openclaw" / "workspace"
        (workspace / "notes.md").write_text("kept")
        await _manage_devices(first)
        async with rpc(first) as connection:
            devices = (await connection.call("device.pair.list"))["paired"]
        began = time.monotonic()
        assert await first.stop() == 0, first.tail()
        assert time.monotonic() - began < 27
    next_vm(tmp_path)
    async with gateway(tmp_path / "b", bucket, openclaw, model) as second:
        await second.ready()
        said = await history(second)
        assert "MARK-one" in said
        assert "MARK-two" in said
        answer = await talk(second, "and MARK-three")
        assert "MARK-one,MARK-two,MARK-three" in answer, "the model was given the old context"
        assert (second.agent_home / ".openclaw" / "workspace" / "notes.md").read_text() == "kept"
        async with rpc(second) as connection:
            assert (await connection.call("device.pair.list"))["paired"] == devices
        assert await second.stop() == 0
        _check_databases(second.agent_home)


async def _ask_to_be_paired(daemon: Daemon) -> str:
    """A device that waits for an operator: one that is not let in at once, or one that is and wants more; its id."""
    device = DeviceRpc(f"ws://127.0.0.1:{daemon.port}/")
    try:
        async with device:
            await device.ask_for_more("operator.write", "operator.admin")
    except RpcError as error:
        if error.code != "NOT_PAIRED":
            raise
    return device.device_id


async def _manage_devices(daemon: Daemon) -> None:
    """What asks to be paired is approved, rejected and removed through the admin API."""
    one, two, three = [await _ask_to_be_paired(daemon) for _ in range(3)]
    began = time.monotonic()
    code, listed = await daemon.get("/api/admin/devices")
    assert time.monotonic() - began < 5, "not by way of the command line"
    assert code == 200
    wanted = {row["deviceId"]: row["requestId"] for row in listed["pending"]}
    assert set(wanted) == {one, two, three}
    assert await daemon.post(f"/api/admin/devices/{wanted[one]}/approve") == (
        200,
        {
            "success": True,
            "requestId": wanted[one],
            "message": "Device approved",
            "deviceId": one,
            "stdout": "",
            "stderr": "",
        },
    )
    assert (await daemon.post(f"/api/admin/devices/{wanted[one]}/approve"))[0] == 404
    assert (await daemon.post(f"/api/admin/devices/{wanted[two]}/reject"))[0] == 200
    assert (await daemon.post("/api/admin/devices/approve-all"))[1]["approved"] == [wanted[three]]
    _, listed = await daemon.get("/api/admin/devices")
    assert listed["pending"] == []
    assert {one, three} <= {row["deviceId"] for row in listed["paired"]}
    assert "token" not in {key for row in listed["paired"] for item in row["tokens"] for key in item}
    assert (await daemon.delete(f"/api/admin/devices/{three}"))[0] == 200
    assert (await daemon.delete(f"/api/admin/devices/{three}"))[0] == 404
    _, listed = await daemon.get("/api/admin/devices")
    scopes = {row["deviceId"]: set(row["scopes"]) for row in listed["paired"]}
    assert one in scopes
    assert three not in scopes
    assert "operator.admin" not in scopes.get(two, set())


async def test_a_kill_without_warning_costs_three_seconds_at_most(
    bucket: Bucket, openclaw: Path, model: ModelServer, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", bucket, openclaw, model) as first:
        await first.ready()
        await talk(first, "remember MARK-one")
        await talk(first, "remember MARK-two")
        await asyncio.sleep(3)
        await first.kill()
    next_vm(tmp_path)
    async with gateway(tmp_path / "b", bucket, openclaw, model) as second:
        await second.ready()
        said = await history(second)
        assert "MARK-one" in said
        assert "MARK-two" in said
        assert await second.stop() == 0
        _check_databases(second.agent_home)


async def test_a_gateway_that_dies_comes_back_with_what_only_this_disk_has(
    bucket: Bucket, openclaw: Path, model: ModelServer, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", bucket, openclaw, model) as daemon:
        await daemon.ready()
        await talk(daemon, "remember MARK-one")
        bucket.answer_with = 503
        await talk(daemon, "remember MARK-two")
        os.kill((await daemon.status())["agent"]["pid"], signal.SIGKILL)
        await daemon.until(
            "it is back", "/status", lambda code, s: code == 200 and s["ready"] and s["agent"]["restarts"] == 1
        )
        said = await history(daemon)
        assert "MARK-one" in said
        assert "MARK-two" in said
        bucket.answer_with = None


async def test_a_turn_under_way_does_not_outlast_the_grace(
    bucket: Bucket, openclaw: Path, model: ModelServer, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", bucket, openclaw, model) as first:
        await first.ready()
        await talk(first, "remember MARK-one")
        model.delay = 120
        slow = asyncio.ensure_future(talk(first, "remember MARK-two"))
        asked = len(model.requests)
        await model.asked(more_than=asked)
        assert (await first.get("/api/admin/activity"))[1]["busy"], "a turn is under way"
        began = time.monotonic()
        assert await first.stop() == 0, first.tail()
        assert time.monotonic() - began < 27
        slow.cancel()
        await asyncio.wait((slow,))
        model.delay = 0
    next_vm(tmp_path)
    async with gateway(tmp_path / "b", bucket, openclaw, model) as second:
        await second.ready()
        assert "MARK-one" in await history(second)


async def test_a_key_that_was_rotated_takes_effect_and_what_the_user_changed_stays(
    bucket: Bucket, openclaw: Path, model: ModelServer, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", bucket, openclaw, model) as first:
        await first.ready()
        path = first.agent_home / ".openclaw" / "openclaw.json"
        config = json.loads(path.read_text())
        assert "sk-ant-stand-in" not in path.read_text()
        config["agents"]["defaults"]["model"]["primary"] = "anthropic/claude-opus-5"
        path.write_text(json.dumps(config))
        assert await first.stop() == 0
    next_vm(tmp_path)
    async with gateway(
        tmp_path / "b", bucket, openclaw, model, OPENCLAW_GATEWAY_TOKEN="a-token-of-the-operator-0123"
    ) as second:
        await second.until("it asks for the token", "/status", lambda code, _: code == 401, 60)
        await second.ready()
        config = json.loads(path.read_text())
        assert config["agents"]["defaults"]["model"]["primary"] == "anthropic/claude-opus-5"
        assert config["gateway"]["auth"]["mode"] == "trusted-proxy"
        assert "a-token-of-the-operator" not in path.read_text()
        address = f"ws://127.0.0.1:{second.variables['MOLTINIT_AGENT_PORT']}/"
        async with Rpc(address, "a-token-of-the-operator-0123") as direct:
            assert await direct.call("health")
        for wrong in (None, "a-token-of-somebody-else-0123"):
            with pytest.raises(RpcError):
                async with Rpc(address, wrong):
                    pass


def _moltworker_state(home: Path, name: str, config_name: str) -> Path:
    """A state of the time when sessions were files, as moltworker mirrored it."""
    state = home / name
    sessions = state / "agents" / "main" / "sessions"
    sessions.mkdir(parents=True)
    config: dict[str, Any] = {
        "agents": {"defaults": {"workspace": "/root/clawd"}},
        "gateway": {"port": 18789, "mode": "local", "trustedProxies": ["10.1.0.0"]},
    }
    (state / config_name).write_text(json.dumps(config))
    session_id = "0b5d7a52-5bb1-4e0a-9a55-0d3f6f6f1c11"
    now = int(time.time() * 1000)
    (sessions / "sessions.json").write_text(
        json.dumps({SESSION: {"sessionId": session_id, "updatedAt": now, "chatType": "direct"}})
    )
    stamp = "2026-01-01T00:00:00.000Z"
    rows: list[dict[str, Any]] = [
        {"type": "session", "version": 3, "id": session_id, "timestamp": stamp, "cwd": "/root/clawd"},
        {
            "type": "message",
            "id": "aaaa0001",
            "parentId": None,
            "timestamp": stamp,
            "message": {"role": "user", "content": [{"type": "text", "text": "remember MARK-old"}], "timestamp": now},
        },
        {
            "type": "message",
            "id": "aaaa0002",
            "parentId": "aaaa0001",
            "timestamp": stamp,
            "message": {
                "role": "assistant",
                "content": [{"type": "text", "text": "I will"}],
                "api": "anthropic-messages",
                "provider": "anthropic",
                "model": "claude-sonnet-4-5",
                "usage": {"input": 1, "output": 1, "cacheRead": 0, "cacheWrite": 0, "totalTokens": 2},
                "stopReason": "stop",
                "timestamp": now,
            },
        },
    ]
    (sessions / f"{session_id}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return state


@pytest.mark.parametrize(("prefix", "config_name"), [("openclaw/", "openclaw.json"), ("clawdbot/", "clawdbot.json")])
async def test_a_moltworker_bucket_is_moved_in_and_runs(
    bucket: Bucket, openclaw: Path, model: ModelServer, tmp_path: Path, prefix: str, config_name: str
) -> None:
    bucket.prefix = ""
    bucket.upload(_moltworker_state(tmp_path / "old", "state", config_name), prefix)
    bucket.put("workspace/MEMORY.md", b"what I know")
    bucket.put("skills/greet/SKILL.md", b"---\nname: greet\ndescription: greets\n---\n")
    before = set(bucket.keys())
    async with gateway(tmp_path / "a", bucket, openclaw, model) as daemon:
        await daemon.ready()
        assert daemon.events("restore.done")[-1]["origin"] == "imported"
        assert "MARK-old" in await history(daemon)
        assert "MARK-old" in await talk(daemon, "go on with MARK-new")
        workspace = daemon.agent_home / ".openclaw" / "workspace"
        assert (workspace / "MEMORY.md").read_text() == "what I know"
        assert (workspace / "skills" / "greet" / "SKILL.md").exists()
        assert await daemon.stop() == 0
    assert before <= set(bucket.keys()), "the old layout is left untouched"


async def test_an_idle_gateway_causes_no_requests_but_the_look_at_head(
    bucket: Bucket, openclaw: Path, model: ModelServer, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", bucket, openclaw, model) as daemon:
        await daemon.ready()
        await asyncio.sleep(20)
        await daemon.saved()
        await asyncio.sleep(5)
        before = bucket.requests.copy()
        await asyncio.sleep(40)
        after = bucket.requests - before
        assert set(after) == {"HEAD"}, after


def _check_databases(home: Path) -> None:
    """Every database passes the integrity check of a current SQLite, in the gateway's own Node or here."""
    for path in (home / ".openclaw").rglob("*.sqlite"):
        if "lock" in path.name or "writer" in path.name:
            continue
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        connection.create_function("octet_length", 1, lambda value: value and len(value), deterministic=True)
        try:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",), path
        finally:
            connection.close()
