from __future__ import annotations

import aiohttp

from tests.unit.http.support import TOKEN, front_door, token_keeper


async def test_an_operator_is_told_whether_the_vm_may_sleep() -> None:
    async with (
        front_door() as door,
        aiohttp.ClientSession() as session,
        session.get(door.url + "/api/admin/activity") as answer,
    ):
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        document = await answer.json()
    assert document == {"known": True, "busy": False, "doing": [], "next_wake": None}


async def test_nobody_else_is() -> None:
    async with front_door(keeper=token_keeper()) as door, aiohttp.ClientSession() as session:
        async with session.get(door.url + "/api/admin/activity") as answer:
            assert answer.status == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with session.get(door.url + "/api/admin/activity", headers=headers) as answer:
            assert answer.status == 200
