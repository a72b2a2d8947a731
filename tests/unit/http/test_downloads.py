from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from supervisor.http.api.downloads import disposition
from tests.unit.http.admin import AdminOperations
from tests.unit.http.support import Door, front_door, until

SNAPSHOT = "/api/admin/snapshots/7"


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


def url(door: Door, path: str) -> URL:
    return URL(door.url + path, encoded=True)


async def test_a_file_is_saved_and_never_shown(door: Door, session: aiohttp.ClientSession) -> None:
    async with session.get(url(door, f"{SNAPSHOT}/files/a/page.html")) as answer:
        assert (answer.status, await answer.read()) == (200, b"hello")
        assert answer.content_type == "application/octet-stream"
        assert answer.headers["Content-Length"] == "5"
        assert answer.headers["Content-Disposition"].startswith('attachment; filename="page.html"')
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"].startswith("sandbox")
        assert answer.headers["Last-Modified"] == "Thu, 01 Jan 1970 00:00:01 GMT"
    async with session.head(url(door, f"{SNAPSHOT}/files/a/page.html")) as answer:
        assert (answer.status, answer.headers["Content-Length"]) == (200, "5")


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/files/a/b", "a/b"),
        ("/files/a%20b", "a b"),
        ("/files/%C3%A9", "é"),
        ("/files/files/x", "files/x"),
        ("/files?path=a%2Fb", "a/b"),
        ("/files?path=a+b%ff", "a b\udcff"),
        ("/tar", ""),
        ("/tar?path=a", "a"),
    ],
)
async def test_a_path_may_be_of_any_bytes(
    door: Door, session: aiohttp.ClientSession, operations: AdminOperations, path: str, meant: str
) -> None:
    async with session.get(url(door, SNAPSHOT + path)) as answer:
        assert answer.status == 200
    assert operations.opened == [(7, meant)]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{SNAPSHOT}/files/missing", 404),
        (f"{SNAPSHOT}/files", 400),
        (f"{SNAPSHOT}/files?path=", 400),
        (f"{SNAPSHOT}/files?path=a&path=b", 400),
        (f"{SNAPSHOT}/files/..%2f..%2fetc", 400),
        (f"{SNAPSHOT}/files/%ff", 400),
        (f"{SNAPSHOT}/files?path=a%00b", 400),
        ("/api/admin/snapshots/x/files/a", 400),
        ("/api/admin/snapshots/-1/tar", 400),
    ],
)
async def test_what_is_not_there_or_means_nothing_is_an_answer(
    door: Door, session: aiohttp.ClientSession, path: str, status: int
) -> None:
    async with session.get(url(door, path)) as answer:
        assert answer.status == status
        assert (await answer.json())["error"]["message"]


async def test_damage_at_the_beginning_is_an_answer_and_later_it_cuts_the_connection(
    door: Door, session: aiohttp.ClientSession, operations: AdminOperations
) -> None:
    operations.damaged_after = 0
    async with session.get(url(door, f"{SNAPSHOT}/tar")) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (500, "repository-damaged")
    operations.damaged_after = 3
    for path in ("/tar", "/files/a"):
        with pytest.raises(aiohttp.ClientError):
            async with session.get(url(door, SNAPSHOT + path)) as answer:
                await answer.read()


async def test_a_client_that_leaves_ends_the_reading(
    door: Door, session: aiohttp.ClientSession, operations: AdminOperations
) -> None:
    operations.content = bytes(64 << 20)
    async with session.get(url(door, f"{SNAPSHOT}/tar")) as answer:
        await answer.content.readexactly(1)
        answer.close()
    await until(lambda: any(values.get("status") == 499 for _, values in door.log.events))


@pytest.mark.parametrize("name", ['a"b', "a\r\nX-Evil: 1", "é\udcff", "", "x" * 500, "a;b"])
def test_a_files_name_cannot_leave_its_header(name: str) -> None:
    header = disposition(name)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert "\\" not in header


def test_a_files_name_comes_through_whole_for_whoever_reads_rfc_8187() -> None:
    assert disposition("é 1.txt") == "attachment; filename=\"_ 1.txt\"; filename*=UTF-8''%C3%A9%201.txt"
