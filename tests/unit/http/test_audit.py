import json
from pathlib import Path
from typing import Any

import aiohttp

from supervisor.http.audit import KEPT, REFUSALS_AT_ONCE, AuditTrail
from supervisor.http.login import LOGIN_PATH
from supervisor.log import Mask
from supervisor.process.log_file import LogFile
from tests.support.clock import FakeClock
from tests.unit.http.admin import AdminOperations
from tests.unit.http.support import TOKEN, front_door, token_keeper

BEARER = {"Authorization": f"Bearer {TOKEN}"}


def note(trail: AuditTrail, status: int = 200, **parameters: Any) -> None:
    trail.record(
        who="operator",
        peer="127.0.0.1",
        method="POST",
        route="/x",
        parameters=parameters,
        status=status,
        code="",
        seconds=0.0,
    )


def file_in(directory: Path, **options: Any) -> LogFile:
    return LogFile(directory / "logs", "audit.jsonl", render=lambda line: line.text, **options)


async def test_who_what_when_and_outcome_are_written_down(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    clock = FakeClock()
    trail = AuditTrail(clock, sink=file)
    operations = AdminOperations()
    async with (
        front_door(operations=operations, keeper=token_keeper(), audit=trail) as door,
        aiohttp.ClientSession() as session,
    ):
        api = door.url + "/api/admin"
        async with session.post(api + "/restore", json={"snapshot": 2, "path": "a"}, headers=BEARER):
            pass
        async with session.post(api + "/restore", json={"snapshot": 99}, headers=BEARER):
            pass
        async with session.post(api + "/devices/r1/approve", headers=BEARER):
            pass
        async with session.get(api + "/snapshots/7/files/secret/notes.txt", headers=BEARER) as answer:
            await answer.read()
        async with session.post(api + "/agent/stop"):
            pass
        async with session.get(api + "/snapshots", headers=BEARER):
            pass
        async with session.get(door.url + "/status", headers={"Authorization": "Bearer wrong-wrong-wrong"}):
            pass
        async with session.get(door.url + "/status"):
            pass
    file.close()
    entries = [json.loads(line) for line in file.path.read_text().splitlines()]
    told = [(e["who"], e["method"], e["route"], e["outcome"], e["status"], e["code"]) for e in entries]
    assert told == [
        ("operator", "POST", "/api/admin/restore", "done", 200, ""),
        ("operator", "POST", "/api/admin/restore", "failed", 409, "usage"),
        ("operator", "POST", "/api/admin/devices/{requestId}/approve", "done", 200, ""),
        ("operator", "GET", "/api/admin/snapshots/{number}/files/{path}", "done", 200, ""),
        ("unknown", "POST", "/api/admin/agent/stop", "refused", 401, "unauthorized"),
        ("unknown", "GET", "/status", "refused", 401, "unauthorized"),
    ]
    assert entries[0]["parameters"] == {"snapshot": 2, "path": "a"}
    assert entries[2]["parameters"] == {"requestId": "r1"}
    assert entries[3]["parameters"] == {"number": "7", "path": "secret/notes.txt"}
    assert entries[0]["at"] == clock.time()
    assert entries[0]["peer"] == "127.0.0.1"
    assert TOKEN not in file.path.read_text()
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert trail.entries(2) == entries[:-3:-1]


async def test_what_a_client_began_is_written_down_when_it_ends_though_the_client_has_gone() -> None:
    trail = AuditTrail(FakeClock())
    operations = AdminOperations()
    async with front_door(operations=operations, audit=trail) as door, aiohttp.ClientSession() as session:
        timeout = aiohttp.ClientTimeout(total=0.3)
        try:
            async with session.post(door.url + "/api/admin/snapshots", json={"note": "slow"}, timeout=timeout):
                raise AssertionError("it must not be answered yet")
        except TimeoutError:
            pass
        assert trail.entries(1) == []
        operations.release.set()
        async with session.get(door.url + "/livez"):
            pass
        [entry] = trail.entries(1)
        assert (entry["outcome"], entry["parameters"]) == ("done", {"note": "slow"})


def test_secrets_are_masked_and_long_texts_cut() -> None:
    trail = AuditTrail(FakeClock(), mask=Mask(["swordfish"]).value)
    note(trail, note="it is swordfish", path="x" * 5000, deep={"token": "swordfish"})
    [entry] = trail.entries(1)
    assert "swordfish" not in json.dumps(entry)
    assert len(entry["parameters"]["path"]) == 200


async def test_refusals_are_bounded_in_number_and_the_number_left_out_is_told() -> None:
    clock = FakeClock()
    trail = AuditTrail(clock)
    for _ in range(1000):
        note(trail, 401)
    assert len(trail.entries(5000)) == REFUSALS_AT_ONCE
    await clock.advance(10)
    note(trail, 403)
    assert trail.entries(1)[0]["suppressed"] == 1000 - REFUSALS_AT_ONCE
    note(trail, 200)
    assert trail.entries(1)[0]["outcome"] == "done"


async def test_refusals_do_not_push_out_what_was_done() -> None:
    clock = FakeClock()
    trail = AuditTrail(clock)
    note(trail, 200)
    for _ in range(KEPT * 2):
        await clock.advance(10)
        note(trail, 401)
    kept = trail.entries(10_000)
    assert len(kept) == KEPT // 5 + 1
    assert kept[-1]["outcome"] == "done"


def test_memory_and_disk_are_bounded(tmp_path: Path) -> None:
    file = file_in(tmp_path, max_bytes=20_000, keep=2)
    trail = AuditTrail(FakeClock(), sink=file)
    for number in range(3 * KEPT):
        note(trail, number=number)
    file.close()
    assert len(trail.entries(10_000)) == KEPT
    assert sum(path.stat().st_size for path in file.path.parent.iterdir()) <= 3 * 20_000


def test_a_new_daemon_on_the_same_disk_remembers(tmp_path: Path) -> None:
    file = file_in(tmp_path)
    note(AuditTrail(FakeClock(), sink=file), note="one")
    file.close()
    with file.path.open("a") as more:
        more.write('nonsense\n[]\n{"at": "x"}\n{"half')
    again = AuditTrail(FakeClock(), path=file.path)
    assert [entry["parameters"] for entry in again.entries(10)] == [{"note": "one"}]
    assert AuditTrail(FakeClock(), path=tmp_path / "none").entries(10) == []


async def test_what_nobody_in_particular_does_is_bounded_whatever_its_end() -> None:
    trail = AuditTrail(FakeClock())
    async with (
        front_door(operations=AdminOperations(), keeper=token_keeper(), audit=trail) as door,
        aiohttp.ClientSession() as session,
    ):
        for _ in range(2 * REFUSALS_AT_ONCE):
            async with session.post(door.url + "/api/status"):
                pass
        async with session.post(door.url + "/api/admin/agent/stop", headers=BEARER):
            pass
    entries = trail.entries(1000)
    assert len(entries) == REFUSALS_AT_ONCE + 1
    assert (entries[0]["who"], entries[0]["outcome"]) == ("operator", "done")


async def test_who_signs_in_is_named_from_then_on() -> None:
    trail = AuditTrail(FakeClock())
    async with (
        front_door(operations=AdminOperations(), keeper=token_keeper(), audit=trail) as door,
        aiohttp.ClientSession() as session,
    ):
        for token in ("wrong", TOKEN):
            form = {"token": token, "next": "/"}
            async with session.post(door.url + LOGIN_PATH, data=form, allow_redirects=False) as answer:
                assert answer.status in (303, 401)
    signed_in, refused = trail.entries(2)
    assert (signed_in["who"], signed_in["outcome"], signed_in["status"]) == ("operator", "done", 303)
    assert (refused["outcome"], refused["status"]) == ("refused", 401)
    assert TOKEN not in str(trail.entries(10))
