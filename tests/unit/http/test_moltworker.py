from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from supervisor.errors import AgentError, StoreUnavailable, UsageError
from tests.unit.http.admin import AdminOperations
from tests.unit.http.support import Door, front_door


@pytest.fixture
async def operations() -> AdminOperations:
    return AdminOperations()


@pytest.fixture
async def door(operations: AdminOperations) -> AsyncIterator[Door]:
    async with front_door(operations=operations) as running:
        yield running


async def ask(door: Door, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, door.url + "/api/admin" + path, **options) as answer,
    ):
        return answer.status, await answer.json()


async def test_devices_are_listed_as_moltworker_lists_them(door: Door) -> None:
    assert await ask(door, "GET", "/devices") == (
        200,
        {"pending": [{"requestId": "r1"}, {"requestId": "r2"}], "paired": [{"deviceId": "d1"}]},
    )


async def test_a_device_is_approved_and_the_answer_has_every_field_that_moltworkers_has(door: Door) -> None:
    status, answer = await ask(door, "POST", "/devices/r1/approve")
    assert status == 200
    assert answer == {
        "success": True,
        "requestId": "r1",
        "message": "Device approved",
        "deviceId": "d2",
        "stdout": "",
        "stderr": "",
    }


async def test_an_unknown_request_is_404_and_no_success(door: Door) -> None:
    status, answer = await ask(door, "POST", "/devices/nobody/approve")
    assert status == 404
    assert answer["success"] is False
    assert answer["requestId"] == "nobody"
    assert answer["message"] == answer["error"] == "the gateway knows no request 'nobody'"


@pytest.mark.parametrize("name", ["a;id", "$(id)", "a b", "%0a", "-x/../y", "a%2Fb", "x" * 201])
async def test_what_is_no_id_never_reaches_the_agent(door: Door, operations: AdminOperations, name: str) -> None:
    status, _ = await ask(door, "POST", f"/devices/{name}/approve")
    assert status in (400, 404)
    assert operations.pending == ["r1", "r2"]


async def test_all_pending_devices_are_approved_at_once(door: Door, operations: AdminOperations) -> None:
    assert await ask(door, "POST", "/devices/approve-all") == (
        200,
        {"approved": ["r1", "r2"], "failed": [], "message": "Approved 2 of 2 device(s)"},
    )
    assert operations.pending == []


async def test_a_device_is_rejected_and_one_is_removed(door: Door, operations: AdminOperations) -> None:
    assert (await ask(door, "POST", "/devices/r2/reject"))[0] == 200
    assert (await ask(door, "DELETE", "/devices/d1"))[0] == 200
    assert (operations.pending, operations.paired) == (["r1"], [])
    assert (await ask(door, "DELETE", "/devices/d1"))[0] == 404


async def test_an_agent_without_devices_says_so(door: Door, operations: AdminOperations) -> None:
    operations.failure = UsageError("this agent (echo) has no devices", hint="there is nobody to approve")
    status, answer = await ask(door, "GET", "/devices")
    assert (status, answer["error"]) == (409, "this agent (echo) has no devices")


async def test_an_agent_that_does_not_answer_is_500_with_a_text(door: Door, operations: AdminOperations) -> None:
    operations.failure = AgentError("the gateway did not answer", hint="wait")
    assert await ask(door, "GET", "/devices") == (
        500,
        {"error": "the gateway did not answer", "code": "agent", "hint": "wait"},
    )


async def test_a_sync_is_a_committed_snapshot(door: Door, operations: AdminOperations) -> None:
    assert await ask(door, "POST", "/storage/sync") == (
        200,
        {
            "success": True,
            "message": "Sync completed successfully",
            "lastSync": "2026-01-01T00:00:00+00:00",
            "sequence": 3,
        },
    )
    assert operations.committed == 1


async def test_a_sync_without_a_bucket_is_400_and_one_that_fails_is_500(
    door: Door, operations: AdminOperations
) -> None:
    operations.configured = False
    status, answer = await ask(door, "POST", "/storage/sync")
    assert (status, answer["success"], answer["error"]) == (400, False, "R2 storage is not configured")
    operations.configured = True
    operations.failure = StoreUnavailable("the bucket does not answer", hint="wait")
    status, answer = await ask(door, "POST", "/storage/sync")
    assert (status, answer["success"], answer["error"]) == (500, False, "the bucket does not answer")
    assert answer["details"] == "wait"
    assert operations.committed == 0


async def test_a_restart_that_takes_too_long_is_told_as_such(door: Door, operations: AdminOperations) -> None:
    operations.state = "starting"
    assert await ask(door, "POST", "/gateway/restart") == (
        202,
        {
            "success": True,
            "message": "The gateway is still starting after 80 s.",
            "previousProcessId": None,
            "state": "starting",
        },
    )
    operations.failure = AgentError("the agent did not start: it is crash-loop", hint="its log says why")
    status, answer = await ask(door, "POST", "/gateway/restart")
    assert (status, answer["success"], answer["code"]) == (500, False, "agent")


async def test_the_agent_is_stopped_and_started_and_left_alone(door: Door, operations: AdminOperations) -> None:
    assert (await ask(door, "POST", "/agent/stop"))[1]["state"] == "held"
    operations.state = "healthy"
    assert (await ask(door, "POST", "/agent/start"))[0] == 200
    operations.state = "starting"
    assert (await ask(door, "POST", "/agent/restart"))[0] == 202
    assert await ask(door, "PUT", "/maintenance", json={"on": True, "reason": "a look"}) == (
        200,
        {"on": True, "reason": "a look", "since": 1.0},
    )
    assert (await ask(door, "GET", "/maintenance"))[1]["on"] is True
    for body in ({}, {"on": 1}, {"on": True, "reason": 3}, {"on": True, "for": "ever"}):
        assert (await ask(door, "PUT", "/maintenance", json=body))[0] == 400


async def test_a_misspelt_member_is_refused_rather_than_passed_over(door: Door) -> None:
    status, answer = await ask(door, "POST", "/gc", json={"dryrun": True})
    assert status == 400
    assert "'dryrun'" in answer["error"]["message"]


async def test_a_text_that_is_half_a_surrogate_pair_is_refused(door: Door) -> None:
    status, _ = await ask(door, "POST", "/snapshots", data=b'{"note": "\\ud800"}')
    assert status == 400
