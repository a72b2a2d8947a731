"""Whole lives with the echo agent on a real S3 server: quick, and with everything but the gateway real."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from pathlib import Path

import aiohttp

from tests.support.daemon import Daemon, life
from tests.support.s3 import Bucket


async def say(daemon: Daemon, text: str) -> None:
    status, _ = await daemon.post("/say", {"text": text})
    assert status == 200


async def history(daemon: Daemon) -> list[str]:
    status, document = await daemon.get("/history")
    assert status == 200
    return list(document["history"])


def echo(place: Path, bucket: Bucket, **variables: str):  # type: ignore[no-untyped-def]
    return life(place, bucket=bucket.settings(), MOLTINIT_AGENT="echo", **variables)


async def test_the_next_vm_carries_on_after_a_clean_stop(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(tmp_path / "a", bucket) as first:
        await first.ready()
        await say(first, "one")
        assert await first.stop() == 0, first.tail()
    shutil.rmtree(tmp_path / "a" / "moltinit")
    async with echo(tmp_path / "b", bucket) as second:
        await second.ready()
        assert await history(second) == ["one"]
        assert (await second.status())["bucket"]["epoch"] == 2
        assert await second.stop() == 0


async def test_what_was_saved_survives_a_kill_without_warning(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(tmp_path / "a", bucket) as first:
        await first.ready()
        await say(first, "one")
        await first.committed(after=0)
        await first.saved()
        await first.kill()
    async with echo(tmp_path / "b", bucket) as second:
        await second.ready()
        assert await history(second) == ["one"]


async def test_an_agent_that_dies_is_restarted_on_its_own_newer_state(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(tmp_path / "a", bucket) as daemon:
        await daemon.ready()
        await say(daemon, "one")
        await daemon.saved()
        bucket.answer_with = 503  # what is said now exists on this disk only
        await say(daemon, "two")
        os.kill((await daemon.status())["agent"]["pid"], signal.SIGKILL)
        await daemon.until(
            "it is back", "/status", lambda code, s: code == 200 and s["ready"] and s["agent"]["restarts"] == 1
        )
        assert await history(daemon) == ["one", "two"]
        assert (await daemon.status())["agent"]["last_exit"] == -9
        bucket.answer_with = None


async def test_a_daemon_that_is_restarted_keeps_newer_local_state(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(tmp_path / "a", bucket) as first:
        await first.ready()
        await say(first, "one")
        await first.saved()
        bucket.answer_with = 503
        await say(first, "two")
        await first.kill()
    bucket.answer_with = None
    async with echo(tmp_path / "a", bucket) as second:
        await second.ready()
        assert await history(second) == ["one", "two"]
        assert second.events("restore.done")[-1]["origin"] == "local"


async def test_the_socket_passes_both_ways(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(tmp_path / "a", bucket) as daemon, aiohttp.ClientSession() as session:
        await daemon.ready()
        async with session.ws_connect(f"{daemon.url}/ws") as socket:
            await socket.send_str("hello")
            assert await socket.receive_str(timeout=5) == "hello"


async def test_livez_answers_before_anything_else_is_there(bucket: Bucket, tmp_path: Path) -> None:
    await bucket.close()
    async with echo(tmp_path / "a", bucket) as daemon:
        await daemon.until("it lives", "/livez", lambda code, _: code == 200, 10)
        code, document = await daemon.get("/readyz")
        assert code == 503
        assert document["failing"]


async def test_a_bucket_out_of_reach_is_never_taken_for_an_empty_one(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(tmp_path / "a", bucket) as first:
        await first.ready()
        await say(first, "one")
        assert await first.stop() == 0
    await bucket.close()
    async with echo(tmp_path / "b", bucket) as second:
        document = await second.until(
            "it says why",
            "/readyz",
            lambda code, d: code == 503 and any(f["code"].startswith("bucket") for f in d["failing"]),
            30,
        )
        assert document["phase"] == "claim"
        assert not second.agent_home.exists() or not any(second.agent_home.iterdir())
        await bucket.open()
        await second.ready(60)
        assert await history(second) == ["one"]
        assert (await second.status())["problems"] == []


async def test_a_bucket_that_refuses_is_told_and_nothing_is_started(bucket: Bucket, tmp_path: Path) -> None:
    for status in (403, 503):
        bucket.answer_with = status
        async with echo(tmp_path / str(status), bucket) as daemon:
            document = await daemon.until(
                "it says why",
                "/readyz",
                lambda code, d: code == 503 and any(f["code"].startswith("bucket") for f in d["failing"]),
                30,
            )
            assert document["phase"] == "claim"
            assert (await daemon.status())["agent"]["pid"] is None
            bucket.answer_with = None
            await daemon.ready(60)


async def test_an_endpoint_whose_name_does_not_resolve_is_told(bucket: Bucket, tmp_path: Path) -> None:
    nowhere = {**bucket.settings(), "MOLTINIT_S3_ENDPOINT_URL": "http://no-such-host.invalid:9000"}
    async with life(tmp_path / "a", bucket=nowhere, MOLTINIT_AGENT="echo") as daemon:
        await daemon.until(
            "it says why",
            "/readyz",
            lambda code, d: code == 503 and any("no-such-host" in f["message"] for f in d["failing"]),
            30,
        )
        assert await daemon.stop() == 15
    assert bucket.keys() == []


async def test_a_bucket_that_goes_away_while_serving_costs_no_service(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(tmp_path / "a", bucket) as daemon:
        await daemon.ready()
        await daemon.committed(after=0)
        await daemon.saved()
        before = (await daemon.status())["snapshots"]["last"]["sequence"]
        await bucket.close()
        await say(daemon, "while it was gone")
        await daemon.until(
            "the problem is told", "/status", lambda code, s: code == 200 and s["problems"] and s["ready"], 30
        )
        await bucket.open()
        await daemon.committed(after=before, seconds=90)
        await daemon.until("the problem is over", "/status", lambda code, s: code == 200 and not s["problems"], 60)
        await daemon.kill()
    async with echo(tmp_path / "b", bucket) as second:
        await second.ready()
        assert await history(second) == ["while it was gone"]


async def test_a_damaged_newest_snapshot_gives_way_to_the_one_before(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(tmp_path / "a", bucket) as first:
        await first.ready()
        await say(first, "one")
        await first.post("/api/admin/snapshots")
        await say(first, "two")
        assert await first.stop() == 0
    newest = max(bucket.keys("agent/manifests/"))
    bucket.corrupt(newest)
    async with echo(tmp_path / "b", bucket) as second:
        await second.ready()
        status = await second.status()
        assert "snapshot-damaged" in [problem["code"] for problem in status["problems"]]
        assert "one" in await history(second)


async def test_an_emptied_home_does_not_become_the_truth(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(tmp_path / "a", bucket) as first:
        await first.ready()
        await say(first, "one")
        for number in range(10):
            (first.agent_home / f"note-{number}").write_text("x" * 100)
        await first.committed(after=0)
        await first.saved()
        for entry in first.agent_home.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        await first.until(
            "the guard says so",
            "/status",
            lambda code, s: code == 200 and "snapshot-shrunk" in [p["code"] for p in s["problems"]],
            30,
        )
        await first.kill()
    async with echo(tmp_path / "b", bucket) as second:
        await second.ready()
        assert (second.agent_home / "note-9").exists()
        assert await history(second) == ["one"]


async def test_a_home_that_is_gone_altogether_is_told_and_the_last_snapshot_stays(
    bucket: Bucket, tmp_path: Path
) -> None:
    async with echo(tmp_path / "a", bucket, MOLTINIT_STOP_GRACE="5s") as first:
        await first.ready()
        await say(first, "one")
        await first.committed(after=0)
        await first.saved()
        shutil.rmtree(first.agent_home)
        await first.until(
            "it says so",
            "/status",
            lambda code, s: code == 200 and {"snapshot-failed", "snapshot-shrunk"} & {p["code"] for p in s["problems"]},
            30,
        )
        assert (await first.get("/livez"))[0] == 200
        assert await first.stop() == 14
    async with echo(tmp_path / "b", bucket) as second:
        await second.ready()
        assert await history(second) == ["one"]


async def test_a_disk_that_cannot_be_written_is_told_and_tried_again(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    in_the_way = tmp_path / "a" / "home"
    in_the_way.write_text("a file where the agent's home belongs")
    async with echo(tmp_path / "a", bucket, MOLTINIT_AGENT_HOME=str(in_the_way)) as daemon:
        await daemon.until(
            "it says so",
            "/readyz",
            lambda code, d: code == 503 and any(str(in_the_way) in f["message"] for f in d["failing"]),
            30,
        )
        in_the_way.unlink()
        await daemon.ready()


async def test_an_operator_restores_an_older_snapshot_in_place(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(tmp_path / "a", bucket) as daemon:
        await daemon.ready()
        await say(daemon, "one")
        _, taken = await daemon.post("/api/admin/snapshots")
        await say(daemon, "two")
        code, document = await daemon.post("/api/admin/restore", {"snapshot": taken["sequence"]})
        assert code == 200, document
        await daemon.ready()
        assert await history(daemon) == ["one"]
        _, listing = await daemon.get("/api/admin/snapshots")
        assert "before-restore" in [record["pin"] for record in listing["snapshots"]]


async def test_usr2_takes_a_snapshot_and_hup_does_nothing(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(tmp_path / "a", bucket) as daemon:
        await daemon.ready()
        await daemon.committed(after=0)
        await daemon.saved()
        before = (await daemon.status())["snapshots"]["last"]["sequence"]
        daemon.signal(signal.SIGHUP)
        daemon.signal(signal.SIGUSR1)
        daemon.signal(signal.SIGUSR2)
        await daemon.committed(after=before)
        assert (await daemon.status())["ready"]


async def test_the_log_and_the_status_hold_no_secret(bucket: Bucket, tmp_path: Path) -> None:
    async with echo(
        tmp_path / "a", bucket, MOLTINIT_LOG_LEVEL="debug", ANTHROPIC_API_KEY="sk-ant-a-very-secret-value-123456"
    ) as daemon:
        await daemon.ready()
        status = await daemon.status()
        assert await daemon.stop() == 0
        shown = daemon.log.read_text() + str(status)
        assert bucket.server.secret_access_key not in shown
        assert "very-secret-value" not in shown


async def test_a_service_manager_hears_of_one_life_and_the_agent_cannot_speak_for_it(
    bucket: Bucket, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        said: list[str] = []
        asyncio.get_running_loop().add_reader(manager, lambda: said.append(manager.recv(1024).decode()))
        async with echo(
            tmp_path / "a", bucket, NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="60000000"
        ) as daemon:
            await daemon.ready()
            pid = (await daemon.status())["agent"]["pid"]
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()
            await asyncio.sleep(1.2)
            assert await daemon.stop() == 0
        asyncio.get_running_loop().remove_reader(manager)
    said = [text for text in said if not text.startswith("EXTEND")]
    assert said.index("STATUS=restore") < said.index("READY=1") < said.index("WATCHDOG=1", said.index("READY=1"))
    assert said.index("WATCHDOG=1", said.index("READY=1")) < said.index("STOPPING=1")
