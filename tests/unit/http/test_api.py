import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from supervisor.errors import AgentError, Fenced, MoltinitError, StoreRefused, StoreUnavailable, UsageError
from supervisor.http.answers import status_of
from supervisor.http.api import MAX_BODY_BYTES
from tests.unit.http.support import TOKEN, Door, front_door, token_keeper, until


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with front_door() as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def test_the_probes_answer_get_and_head(door: Door, session: aiohttp.ClientSession) -> None:
    for path in ("/livez", "/readyz", "/startupz"):
        async with session.get(door.url + path) as answer:
            assert answer.status == 200
            assert (await answer.json())["ok"] is True
            assert "Server" not in answer.headers
        async with session.head(door.url + path) as answer:
            assert (answer.status, await answer.read()) == (200, b"")


async def test_readiness_is_503_and_lists_what_fails(door: Door, session: aiohttp.ClientSession) -> None:
    door.operations.ready = False
    async with session.get(door.url + "/readyz") as answer:
        assert answer.status == 503
        assert (await answer.json())["failing"][0]["code"] == "agent"
    async with session.get(door.url + "/livez") as answer:
        assert answer.status == 200


async def test_a_method_that_a_path_does_not_have_is_405_and_never_proxied(
    door: Door, session: aiohttp.ClientSession
) -> None:
    async with session.post(door.url + "/status") as answer:
        assert answer.status == 405
        assert answer.headers["Allow"] == "GET, HEAD"
        assert (await answer.json())["error"]["code"] == "method-not-allowed"
    async with session.delete(door.url + "/api/admin/snapshots") as answer:
        assert answer.headers["Allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("path", ["/api/admin", "/api/admin/", "/api/admin/nothing", "/_admin/", "/_admin/x"])
async def test_an_unknown_path_of_ours_is_404_and_never_proxied(
    door: Door, session: aiohttp.ClientSession, path: str
) -> None:
    async with session.get(door.url + path) as answer:
        assert answer.status == 404
        assert (await answer.json())["error"]["code"] == "not-found"


async def test_a_snapshot_is_taken_with_its_note(door: Door, session: aiohttp.ClientSession) -> None:
    async with session.post(door.url + "/api/admin/snapshots", json={"note": "before the trip"}) as answer:
        assert (answer.status, await answer.json()) == (200, {"sequence": 3})
    async with session.post(door.url + "/api/admin/snapshots") as answer:
        assert answer.status == 200
    assert door.operations.taken == [("operator", "before the trip"), ("operator", "")]
    async with session.get(door.url + "/api/admin/snapshots") as answer:
        assert await answer.json() == {"snapshots": [{"sequence": 2}, {"sequence": 1}]}


async def test_a_snapshot_goes_on_when_the_client_who_asked_for_it_leaves(
    door: Door, session: aiohttp.ClientSession
) -> None:
    request = asyncio.ensure_future(session.post(door.url + "/api/admin/snapshots", json={"note": "slow"}))
    await until(lambda: door.operations.taken)
    request.cancel()
    await asyncio.wait([request])
    await until(lambda: any(values.get("status") == 499 for _, values in door.log.events))
    door.operations.release.set()
    await until(lambda: door.operations.committed)


async def test_a_restore_names_a_snapshot_that_exists(door: Door, session: aiohttp.ClientSession) -> None:
    async with session.post(door.url + "/api/admin/restore", json={"snapshot": 2}) as answer:
        assert answer.status == 200
    assert door.operations.restored == [2]
    async with session.post(door.url + "/api/admin/restore", json={"snapshot": 99}) as answer:
        assert answer.status == 409
        assert await answer.json() == {
            "error": {"code": "usage", "message": "There is no snapshot 99.", "hint": "List them."}
        }


@pytest.mark.parametrize("body", [b"{}", b"[]", b"nonsense", b'{"snapshot": true}', b'{"snapshot": -1}', b"[" * 9999])
async def test_a_body_that_means_nothing_is_400(door: Door, session: aiohttp.ClientSession, body: bytes) -> None:
    async with session.post(door.url + "/api/admin/restore", data=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "bad-request"


async def test_a_body_beyond_the_limit_is_413(door: Door, session: aiohttp.ClientSession) -> None:
    async with session.post(door.url + "/api/admin/restore", data=b" " * (MAX_BODY_BYTES + 1)) as answer:
        assert answer.status == 413


async def test_the_gateway_is_restarted_in_moltworkers_shape(door: Door, session: aiohttp.ClientSession) -> None:
    async with session.post(door.url + "/api/admin/gateway/restart") as answer:
        assert await answer.json() == {
            "success": True,
            "message": "The gateway was restarted in 1.5 s.",
            "previousProcessId": "42",
            "state": "healthy",
        }


async def test_logs_are_paged_by_number(door: Door, session: aiohttp.ClientSession) -> None:
    async with session.get(door.url + "/api/admin/logs?after=7&limit=2") as answer:
        document = await answer.json()
    assert [line["number"] for line in document["lines"]] == [8, 9]
    assert document["next"] == 9
    async with session.get(door.url + "/api/admin/logs?after=x") as answer:
        assert answer.status == 400


async def test_moltworkers_public_shapes(door: Door, session: aiohttp.ClientSession) -> None:
    async with session.get(door.url + "/sandbox-health") as answer:
        assert await answer.json() == {
            "status": "ok",
            "service": "moltbot-sandbox",
            "gateway_port": 18789,
        }
    async with session.get(door.url + "/api/status") as answer:
        assert await answer.json() == {"ok": False, "status": "not_responding"}
    door.operations.ready = False
    async with session.get(door.url + "/api/status") as answer:
        assert await answer.json() == {"ok": False, "status": "not_running"}
    door.operations.address = ("127.0.0.1", 1)
    async with session.get(door.url + "/api/status") as answer:
        assert await answer.json() == {"ok": True, "status": "running", "processId": "gateway"}


async def test_in_token_mode_only_health_is_open(session: aiohttp.ClientSession) -> None:
    async with front_door(keeper=token_keeper()) as door:
        for path in ("/livez", "/readyz", "/startupz", "/sandbox-health", "/api/status"):
            async with session.get(door.url + path) as answer:
                assert answer.status == 200
        for path in ("/status", "/metrics", "/api/admin/snapshots", "/api/admin/x", "/", "/chat"):
            async with session.get(door.url + path) as answer:
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
        async with session.get(door.url + f"/status?token={TOKEN}") as answer:
            assert answer.status == 401
        async with session.get(door.url + "/metrics", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
            assert answer.status == 200
            assert await answer.read() == b"moltinit_agent_up 1.0\n"


async def test_a_wrong_host_and_a_foreign_post_are_refused(door: Door, session: aiohttp.ClientSession) -> None:
    async with session.get(door.url + "/status", headers={"Host": "evil.example"}) as answer:
        assert answer.status == 403
    async with session.post(door.url + "/api/admin/snapshots", headers={"Origin": "https://evil.example"}) as answer:
        assert answer.status == 403
    assert door.operations.taken == []


async def test_the_log_has_the_path_and_never_the_query(door: Door, session: aiohttp.ClientSession) -> None:
    async with session.get(door.url + "/status?token=sesame"):
        pass
    event, values = door.log.events[-1]
    assert (event, values["path"], values["status"]) == ("request", "/status", 200)
    assert "sesame" not in str(door.log.events)


async def test_a_fault_of_our_own_is_a_500_without_details(
    door: Door, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> dict[str, object]:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(door.operations, "status", broken)
    async with session.get(door.url + "/status") as answer:
        assert answer.status == 500
        assert "secret detail" not in await answer.text()
    assert any(event == "request failed" for event, _ in door.log.events)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), 409),
        (Fenced("x"), 409),
        (StoreUnavailable("x"), 503),
        (StoreRefused("x"), 502),
        (AgentError("x"), 502),
        (MoltinitError("x"), 500),
    ],
)
def test_every_error_has_a_status_that_fits(error: MoltinitError, status: int) -> None:
    assert status_of(error) == status
