import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from supervisor.http.answers import HttpError
from supervisor.http.own_page import require_own_page
from tests.unit.http.admin import AdminOperations
from tests.unit.http.support import front_door


def asked(method: str, **headers: str) -> bool:
    """Is it let through?"""
    named = CIMultiDictProxy(CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()}))
    try:
        require_own_page(method, named)
    except HttpError:
        return False
    return True


@pytest.mark.parametrize(
    "browser",
    [
        {"Cookie": "session=1"},
        {"User_Agent": "Mozilla/5.0 (X11; Linux x86_64)"},
        {"Sec_Fetch_Mode": "navigate"},
        {"Sec_Fetch_Site": "none"},
        {"Cookie": "session=1", "Authorization": "Basic eDp5"},
    ],
)
def test_what_may_be_a_browser_has_to_say_where_its_call_comes_from(browser: dict[str, str]) -> None:
    assert not asked("POST", **browser)
    assert not asked("DELETE", **browser)
    assert asked("GET", **browser)
    assert asked("POST", **browser, Origin="https://claw.example.com")
    assert asked("POST", **browser, X_Moltinit="1")
    assert asked("POST", **browser, X_Requested_With="XMLHttpRequest")
    assert asked("POST", **{**browser, "Authorization": "Bearer a-key"})
    assert asked("POST", **{**browser, "Sec_Fetch_Site": "same-origin"})


def test_a_program_without_anything_of_a_browser_passes() -> None:
    assert asked("POST", User_Agent="curl/8.5.0")
    assert asked("PUT")


async def test_the_front_door_asks_for_it_on_its_own_paths() -> None:
    operations = AdminOperations()
    async with front_door(operations=operations) as door, aiohttp.ClientSession() as session:
        where = door.url + "/api/admin/agent/stop"
        async with session.post(where, headers={"Cookie": "a=b"}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (403, "origin-missing")
        assert operations.state == "healthy"
        async with session.post(where, headers={"Cookie": "a=b", "Origin": door.url}) as answer:
            assert answer.status == 200
        async with session.post(where, headers={"Cookie": "a=b", "Origin": "https://evil.example"}) as answer:
            assert answer.status == 403
