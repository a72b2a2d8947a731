import base64
from collections.abc import Mapping

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from supervisor.errors import SettingsError
from supervisor.http.answers import HttpError
from supervisor.http.auth import Access, Gatekeeper, gatekeeper
from tests.support.clock import FakeClock
from tests.unit.http.support import TOKEN, token_keeper


def headers(values: Mapping[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(values))


def loopback(*origins: str) -> Gatekeeper:
    return gatekeeper("none", listen_host="127.0.0.1", operator_token=None, public_origins=origins)


async def refused(keeper: Gatekeeper, method: str, values: Mapping[str, str]) -> tuple[int, str]:
    with pytest.raises(HttpError) as caught:
        await keeper.admit(method, headers(values), Access.USER)
    return caught.value.status, caught.value.code


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com"])
def test_mode_none_is_refused_unless_bound_to_loopback(host: str) -> None:
    with pytest.raises(SettingsError, match=host):
        gatekeeper("none", listen_host=host, operator_token=None)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:1", "moltinit.localhost", "127.1.2.3"]
)
async def test_mode_none_admits_loopback_names(host: str) -> None:
    await loopback().admit("GET", headers({"Host": host}), Access.OPERATOR)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "evil.example@localhost", "127.0.0.1.evil.example", "", "a b"],
)
async def test_mode_none_refuses_a_host_that_was_pointed_at_loopback(host: str) -> None:
    assert await refused(loopback(), "GET", {"Host": host}) == (403, "host-refused")


async def test_mode_none_refuses_a_request_with_two_hosts_or_none() -> None:
    keeper = loopback()
    assert await refused(keeper, "GET", {}) == (403, "host-refused")
    two = CIMultiDictProxy(CIMultiDict([("Host", "localhost"), ("Host", "localhost")]))
    with pytest.raises(HttpError):
        await keeper.admit("GET", two, Access.USER)


async def test_a_configured_origin_is_a_host_that_may_be_asked_for() -> None:
    await loopback("https://claw.example.com").admit("GET", headers({"Host": "claw.example.com"}), Access.USER)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", "https://x@localhost"])
async def test_an_unsafe_method_from_another_origin_is_refused(method: str, origin: str) -> None:
    values = {"Host": "localhost:8080", "Origin": origin}
    assert await refused(loopback(), method, values) == (403, "cross-site")


async def test_a_websocket_upgrade_from_another_origin_is_refused() -> None:
    values = {"Host": "localhost:8080", "Origin": "http://evil.example", "Upgrade": "websocket"}
    assert await refused(loopback(), "GET", values) == (403, "cross-site")


async def test_an_old_browser_without_origin_is_refused_by_its_fetch_site() -> None:
    values = {"Host": "localhost", "Sec-Fetch-Site": "cross-site"}
    assert await refused(loopback(), "POST", values) == (403, "cross-site")


@pytest.mark.parametrize(
    "values",
    [
        {"Host": "localhost:8080", "Origin": "http://localhost:8080"},
        {"Host": "localhost:8080"},
        {"Host": "claw.example.com", "Origin": "https://claw.example.com"},
        {"Host": "localhost:8080", "Origin": "https://claw.example.com"},
        {"Host": "localhost:80", "Origin": "http://localhost"},
    ],
)
async def test_an_unsafe_method_from_its_own_origin_or_from_no_browser_is_admitted(values: dict[str, str]) -> None:
    await loopback("https://claw.example.com").admit("POST", headers(values), Access.USER)


async def test_a_get_from_elsewhere_is_admitted_since_its_answer_cannot_be_read_there() -> None:
    await loopback().admit("GET", headers({"Host": "localhost", "Origin": "http://evil.example"}), Access.USER)


@pytest.mark.parametrize("value", [f"Bearer {TOKEN}", f"bearer {TOKEN}", basic(TOKEN)])
async def test_the_token_is_taken_as_a_bearer_and_as_a_basic_password(value: str) -> None:
    visitor = await token_keeper().admit("GET", headers({"Authorization": value}), Access.OPERATOR)
    assert visitor.spent_authorization


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN},
        {"Authorization": f"Digest {TOKEN}"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic " + base64.b64encode(TOKEN.encode()).decode()},
        {"Authorization": basic("wrong")},
        {"Authorization": "Bearer \udcff"},
        {"X-Operator-Token": TOKEN},
    ],
)
async def test_no_token_or_a_wrong_one_is_401(values: dict[str, str]) -> None:
    assert await refused(token_keeper(), "GET", values) == (401, "unauthorized")


async def test_a_browser_that_remembers_the_token_cannot_be_made_to_post_by_another_site() -> None:
    values = {"Host": "claw.example.com", "Authorization": basic(TOKEN), "Origin": "https://evil.example"}
    assert await refused(token_keeper(), "POST", values) == (403, "cross-site")
    assert await refused(token_keeper(), "GET", {**values, "Upgrade": "websocket"}) == (403, "cross-site")


@pytest.mark.parametrize("token", [None, "", "short"])
def test_token_mode_needs_a_token_worth_the_name(token: str | None) -> None:
    with pytest.raises(SettingsError):
        gatekeeper("token", listen_host="0.0.0.0", operator_token=token)


async def test_the_daemons_own_commands_come_in_with_the_credential_of_this_life() -> None:
    bearer = {"Host": "localhost", "Authorization": "Bearer the-credential"}
    for mode, token in (("none", None), ("token", TOKEN)):
        keeper = gatekeeper(mode, listen_host="127.0.0.1", operator_token=token, local_credential="the-credential")
        visitor = await keeper.admit("POST", headers(bearer), Access.OPERATOR)
        assert (visitor.via, visitor.operator, visitor.spent_authorization) == ("local", True, True)


async def test_wrong_tokens_are_refused_for_a_while_and_then_heard_again() -> None:
    clock = FakeClock()
    keeper = gatekeeper("token", listen_host="0.0.0.0", operator_token=TOKEN, clock=clock)
    for _ in range(10):
        assert await refused(keeper, "GET", {"Authorization": "Bearer wrong"}) == (401, "unauthorized")
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert await refused(keeper, "GET", right) == (429, "too-many-attempts")
    await keeper.admit("GET", headers(right), Access.USER, peer="203.0.113.8")
    await clock.advance(15)
    await keeper.admit("GET", headers(right), Access.USER)


@pytest.mark.parametrize("keeper", [loopback(), token_keeper()])
async def test_an_open_path_is_open_to_any_host(keeper: Gatekeeper) -> None:
    await keeper.admit("GET", headers({"Host": "10.0.0.7"}), Access.OPEN)


def test_an_unknown_mode_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="'open'"):
        gatekeeper("open", listen_host="127.0.0.1", operator_token=None)


@pytest.mark.parametrize("origin", ["claw.example.com", "https://claw.example.com/path", "ftp://x", "https://"])
def test_a_public_origin_that_is_none_is_a_settings_error(origin: str) -> None:
    with pytest.raises(SettingsError, match="not an origin"):
        loopback(origin)
