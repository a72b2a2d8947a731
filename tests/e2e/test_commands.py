"""The command line, as somebody types it, with and without a daemon."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.access import fake_access
from tests.support.daemon import life
from tests.support.s3 import Bucket

PROJECT = Path(__file__).parents[2]


class Shell:
    """Runs `moltinit` with one environment."""

    def __init__(self, place: Path, **variables: str) -> None:
        self.variables = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "MOLTINIT_HOME": str(place / "moltinit"),
            "MOLTINIT_AGENT": "echo",
            **variables,
        }

    async def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The finished process. The bucket's proxy answers meanwhile, so it is waited for in a thread."""
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "supervisor", *arguments],
            env=self.variables,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    async def json(self, *arguments: str, code: int = 0) -> Any:
        """What it says as JSON."""
        done = await self.run(*arguments, "--json")
        assert done.returncode == code, done
        return json.loads(done.stdout)


async def lived(place: Path, bucket: Bucket) -> None:
    """Two things said, each in a snapshot of its own, and a clean end."""
    async with life(place, bucket=bucket.settings(), MOLTINIT_AGENT="echo") as daemon:
        await daemon.ready()
        for text in ("one", "two"):
            await daemon.post("/say", {"text": text})
            await daemon.post("/api/admin/snapshots", {"note": text})
        assert await daemon.stop() == 0


async def test_without_a_command_it_says_how_it_is_used(tmp_path: Path) -> None:
    done = await Shell(tmp_path).run()
    assert done.returncode == 2
    assert "usage" in done.stderr


async def test_bad_settings_end_every_command_with_78_and_say_what_is_right(tmp_path: Path) -> None:
    shell = Shell(tmp_path, MOLTINIT_STOP_GRACE="soon", MOLTINIT_LISTN="x")
    for command in ("run", "status", "config"):
        done = await shell.run(command)
        assert done.returncode == 78
        assert "MOLTINIT_STOP_GRACE" in done.stderr
        assert "MOLTINIT_LISTEN" in done.stderr
        assert "Traceback" not in done.stderr
    error = (await shell.json("config", code=78))["error"]
    assert error["code"] == "bad-settings"
    assert error["hint"]


async def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = await Shell(tmp_path, MOLTINIT_LISTEN=address).run("run")
    assert done.returncode == 78
    assert address in done.stderr


async def test_config_shows_where_each_value_came_from_and_no_secret(tmp_path: Path) -> None:
    shell = Shell(tmp_path, OPENAI_API_KEY="sk-very-secret-value")
    done = await shell.run("config")
    assert "environment MOLTINIT_HOME" in done.stdout
    assert "very-secret" not in done.stdout
    assert (await shell.json("config"))["OPENAI_API_KEY"]["value"] == "***"


async def test_without_a_daemon_the_bucket_is_asked(bucket: Bucket, tmp_path: Path) -> None:
    await lived(tmp_path / "a", bucket)
    shell = Shell(tmp_path / "elsewhere", **bucket.settings())
    assert (await shell.json("status"))["bucket"]["state"] == "released"
    records = (await shell.json("snapshots"))["snapshots"]
    assert records[0]["sequence"] > records[-1]["sequence"]
    assert {"one", "two"} <= {record["note"] for record in records}
    assert "NUMBER" in (await shell.run("snapshots")).stdout
    report = await shell.json("verify", "--deep")
    assert report["sound"]
    assert report["blobs"] > 0


async def test_an_older_snapshot_is_restored_beside(bucket: Bucket, tmp_path: Path) -> None:
    await lived(tmp_path / "a", bucket)
    shell = Shell(tmp_path / "elsewhere", **bucket.settings())
    number = next(r["sequence"] for r in (await shell.json("snapshots"))["snapshots"] if r["note"] == "one")
    plan = await shell.json("restore", str(number), "--dry-run")
    assert plan["changed"] >= 1
    out = tmp_path / "out"
    (await shell.json("restore", str(number), "--to", str(out)))
    assert (out / ".echo" / "conversation.jsonl").read_text().count("\n") == 1
    again = await shell.run("restore", str(number), "--to", str(out))
    assert again.returncode == 2
    assert "empty" in again.stderr


async def test_in_place_the_state_before_is_pinned(bucket: Bucket, tmp_path: Path) -> None:
    await lived(tmp_path / "a", bucket)
    shell = Shell(tmp_path / "a", **bucket.settings())
    number = next(r["sequence"] for r in (await shell.json("snapshots"))["snapshots"] if r["note"] == "one")
    (await shell.json("restore", str(number)))
    journal = tmp_path / "a" / "moltinit" / "agent" / ".echo" / "conversation.jsonl"
    assert journal.read_text().count("\n") == 1
    assert "before-restore" in [record["pin"] for record in (await shell.json("snapshots"))["snapshots"]]
    async with life(tmp_path / "b", bucket=bucket.settings(), MOLTINIT_AGENT="echo") as daemon:
        await daemon.ready()
        assert (await daemon.get("/history"))[1] == {"history": ["one"]}


async def test_a_snapshot_without_a_daemon_claims_and_lets_go(bucket: Bucket, tmp_path: Path) -> None:
    await lived(tmp_path / "a", bucket)
    shell = Shell(tmp_path / "a", **bucket.settings())
    (tmp_path / "a" / "moltinit" / "agent" / "note").write_text("by hand")
    record = await shell.json("snapshot", "--note", "by hand")
    status = await shell.json("status")
    assert status["snapshots"]["last"]["sequence"] == record["sequence"]
    assert status["bucket"]["state"] == "released"


async def test_a_bucket_that_another_machine_holds_is_not_taken_by_the_way(bucket: Bucket, tmp_path: Path) -> None:
    async with life(tmp_path / "a", bucket=bucket.settings(), MOLTINIT_AGENT="echo") as daemon:
        await daemon.ready()
        await daemon.committed(after=0)
        done = await Shell(tmp_path / "b", **bucket.settings()).run("snapshot")
        assert done.returncode == 2
        assert "is held by" in done.stderr
        assert (await daemon.status())["ready"]


async def test_with_a_daemon_the_commands_ask_it(bucket: Bucket, tmp_path: Path) -> None:
    async with life(tmp_path / "a", bucket=bucket.settings(), MOLTINIT_AGENT="echo") as daemon:
        await daemon.ready()
        shell = Shell(tmp_path / "a", **daemon.variables)
        await daemon.post("/say", {"text": "one"})
        record = await shell.json("snapshot", "--note", "by command")
        assert (await shell.json("status"))["phase"] == "serve"
        assert (await shell.json("snapshots"))["snapshots"][0]["note"] == "by command"
        assert "serve, ready" in (await shell.run("status")).stdout
        await daemon.post("/say", {"text": "two"})
        (await shell.json("restore", str(record["sequence"])))
        await daemon.ready()
        assert (await daemon.get("/history"))[1] == {"history": ["one"]}
        done = await shell.run("run")
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert (await shell.run("restore", "9999")).returncode != 0


@pytest.mark.parametrize(
    "mode",
    [
        {"MOLTINIT_OPERATOR_TOKEN": "an-operator-token-0123456789"},
        {"CF_ACCESS_TEAM_DOMAIN": "team.cloudflareaccess.com", "CF_ACCESS_AUD": "tag"},
    ],
    ids=["token", "access"],
)
async def test_whoever_is_refused_at_the_door_the_daemons_own_commands_are_let_in(
    bucket: Bucket, tmp_path: Path, mode: dict[str, str]
) -> None:
    async with life(tmp_path / "a", bucket=bucket.settings(), MOLTINIT_AGENT="echo", **mode) as daemon:
        await daemon.ready()
        assert (await daemon.get("/status"))[0] == 401
        found = tmp_path / "a" / "moltinit" / "daemon.json"
        assert found.stat().st_mode & 0o777 == 0o600
        # They need to know where the daemon is, and nothing else.
        without = {name: value for name, value in daemon.variables.items() if name not in mode}
        shell = Shell(tmp_path / "a", **without)
        assert (await shell.json("status"))["ready"]
        assert (await shell.json("snapshot"))["sequence"]
        credential = json.loads(found.read_text())["credential"]
        assert credential not in daemon.log.read_text()
        environment = Path(f"/proc/{(await shell.json('status'))['agent']['pid']}/environ").read_bytes()
        assert credential.encode() not in environment


async def test_damage_is_found_and_told_by_the_exit_code(bucket: Bucket, tmp_path: Path) -> None:
    await lived(tmp_path / "a", bucket)
    shell = Shell(tmp_path / "elsewhere", **bucket.settings())
    bucket.corrupt(bucket.keys("agent/packs/")[0])
    assert (await shell.json("verify"))["sound"]
    report = await shell.json("verify", "--deep", code=12)
    assert report["damaged"]


async def test_doctor_finds_what_is_wrong_and_says_what_to_do(bucket: Bucket, tmp_path: Path) -> None:
    report = await Shell(tmp_path, **bucket.settings()).json("doctor")
    assert {finding["check"] for finding in report["findings"]} >= {"settings", "agent", "disk", "bucket"}
    assert bucket.keys() == []
    wrong = Shell(tmp_path, **{**bucket.settings(), "AWS_SECRET_ACCESS_KEY": "wrong-secret-value"})
    findings = (await wrong.json("doctor", code=11))["findings"]
    bad = next(finding for finding in findings if finding["check"] == "bucket")
    assert bad["state"] == "bad"
    assert "wrong-secret" not in json.dumps(findings)


async def test_doctor_asks_the_access_team_for_its_keys(bucket: Bucket, tmp_path: Path) -> None:
    async with fake_access() as team:
        shell = Shell(tmp_path, **bucket.settings(), CF_ACCESS_TEAM_DOMAIN=team.url, CF_ACCESS_AUD="tag")
        for outage, state in ((None, "ok"), ("error", "bad")):
            team.outage = outage
            findings = json.loads((await shell.run("doctor", "--json")).stdout)["findings"]
            door = next(finding for finding in findings if finding["check"] == "front door")
            assert door["state"] == state
            assert team.url in door["message"]


async def test_an_empty_place_is_said_to_be_empty(tmp_path: Path) -> None:
    done = await Shell(tmp_path).run("snapshots")
    assert done.returncode == 2
    assert "no repository yet" in done.stderr
