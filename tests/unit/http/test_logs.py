import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from supervisor.http.api.logs import MAX_STREAMS, LogsApi
from tests.unit.http.admin import AdminOperations
from tests.unit.http.support import Door, front_door, until

STREAM = "/api/admin/logs/stream"


@pytest.fixture
async def operations() -> AdminOperations:
    return AdminOperations()


@pytest.fixture
async def door(operations: AdminOperations) -> AsyncIterator[Door]:
    async with front_door(operations=operations) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def event(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """The next event, its data read."""
    fields: dict[str, Any] = {}
    async with asyncio.timeout(10):
        while (line := (await answer.content.readline()).decode()) not in ("\n", ""):
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value
    if "data" in fields:
        fields["data"] = json.loads(fields["data"])
    return fields


async def test_lines_come_as_they_are_printed(
    door: Door, session: aiohttp.ClientSession, operations: AdminOperations
) -> None:
    operations.say("one")
    async with session.get(door.url + STREAM) as answer:
        assert answer.content_type == "text/event-stream"
        assert await event(answer) == {"retry": "2000"}
        first = await event(answer)
        assert (first["event"], first["data"]["text"]) == ("line", "one")
        operations.say("two\nevent: forged")
        second = await event(answer)
        assert (second["event"], second["data"]["text"]) == ("line", "two\nevent: forged")
        assert second["id"].endswith("-2")
    await until(lambda: operations.followers == 0)


async def test_a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice(
    door: Door, session: aiohttp.ClientSession, operations: AdminOperations
) -> None:
    operations.say("one", "two")
    async with session.get(door.url + STREAM) as answer:
        await event(answer)
        seen = (await event(answer))["id"]
    operations.say("three")
    async with session.get(door.url + STREAM, headers={"Last-Event-ID": seen}) as answer:
        await event(answer)
        assert [(await event(answer))["data"]["text"] for _ in range(2)] == ["two", "three"]


@pytest.mark.parametrize("identity", ["otherlife-3", "nonsense", "-", "x-9999999999999999999999"])
async def test_a_place_in_another_life_counts_for_nothing(
    door: Door, session: aiohttp.ClientSession, operations: AdminOperations, identity: str
) -> None:
    operations.say("one")
    async with session.get(door.url + STREAM, headers={"Last-Event-ID": identity}) as answer:
        await event(answer)
        assert (await event(answer))["data"]["text"] == "one"


async def test_lines_are_filtered_by_text_in_either_case(
    door: Door, session: aiohttp.ClientSession, operations: AdminOperations
) -> None:
    operations.say("fine", "an ERROR", "fine again", "error too")
    async with session.get(door.url + STREAM + "?contains=Error") as answer:
        await event(answer)
        assert [(await event(answer))["data"]["number"] for _ in range(2)] == [2, 4]


async def test_a_reader_that_missed_lines_is_told_how_many(
    door: Door, session: aiohttp.ClientSession, operations: AdminOperations
) -> None:
    operations.lines = [{"number": number, "at": 0.0, "text": "x"} for number in (5, 9)]
    async with session.get(door.url + STREAM) as answer:
        await event(answer)
        assert (await event(answer))["data"]["number"] == 5
        dropped = await event(answer)
        assert (dropped["event"], dropped["data"]) == ("dropped", {"lines": 3})
        assert (await event(answer))["data"]["number"] == 9


async def test_a_silent_stream_has_a_heartbeat_and_ends_with_the_daemon(operations: AdminOperations) -> None:
    api = LogsApi(operations, heartbeat_seconds=0.01)
    events = api._events(0, "")
    assert await anext(events) == b": serve\n\n"
    api.begin_close()
    told = [one async for one in events]
    assert told[-1].startswith(b"event: end\n")
    assert operations.followers == 0


async def test_the_front_door_closes_without_waiting_for_streams(operations: AdminOperations) -> None:
    async with (
        aiohttp.ClientSession() as session,
        front_door(operations=operations) as door,
        session.get(door.url + STREAM) as answer,
    ):
        await event(answer)
        async with asyncio.timeout(2.5):
            await door.front.stop()
        assert (await event(answer))["event"] == "end"


async def test_the_number_of_streams_is_bounded(
    door: Door, session: aiohttp.ClientSession, operations: AdminOperations
) -> None:
    streams = [await session.get(door.url + STREAM) for _ in range(MAX_STREAMS)]
    async with session.get(door.url + STREAM) as answer:
        assert answer.status == 503
        assert (await answer.json())["error"]["code"] == "too-many-streams"
        assert answer.headers["Retry-After"] == "10"
    for stream in streams:
        stream.close()
    await until(lambda: operations.followers == 0)
    async with session.get(door.url + STREAM) as answer:
        assert answer.status == 200
