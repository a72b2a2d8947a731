import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from supervisor.errors import SettingsError
from supervisor.http.access import AccessGatekeeper, AccessRules
from supervisor.http.answers import HttpError
from supervisor.http.auth import Access, Gatekeeper, Visitor, gatekeeper
from tests.support.access import AUDIENCE, EMAIL, SERVICE, FakeAccess, SigningKey, fake_access, unsigned
from tests.support.clock import FakeClock
from tests.unit.http.support import agent_server, front_door

OPERATOR_TOKEN = "an-operator-token-beside-access"
LOCAL = "the-credential-of-this-life"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def team(clock: FakeClock) -> AsyncIterator[FakeAccess]:
    async with fake_access(now=clock.time()) as access:
        yield access


@pytest.fixture
async def keeper(team: FakeAccess, clock: FakeClock) -> AsyncIterator[Gatekeeper]:
    keeper = make(team, clock)
    yield keeper
    await keeper.close()


def make(team: FakeAccess, clock: FakeClock | None = None, **changes: Any) -> Gatekeeper:
    rules = {"team": team.url, "audiences": (AUDIENCE,), **changes}
    return gatekeeper(
        "access",
        listen_host="0.0.0.0",
        operator_token=OPERATOR_TOKEN,
        local_credential=LOCAL,
        access=AccessRules(**rules),
        clock=clock,
    )


async def admit(
    keeper: Gatekeeper, values: Mapping[str, str] | list[tuple[str, str]], *, method: str = "GET", **options: Any
) -> Visitor:
    access = options.pop("access", Access.OPERATOR)
    headers = CIMultiDictProxy(CIMultiDict(values))
    return await keeper.admit(method, headers, access, peer="203.0.113.7", **options)


async def refused(keeper: Gatekeeper, values: Mapping[str, str] | list[tuple[str, str]], **options: Any) -> HttpError:
    with pytest.raises(HttpError) as caught:
        await admit(keeper, values, **options)
    return caught.value


def header(token: str) -> dict[str, str]:
    return {"Host": "claw.example.com", "Cf-Access-Jwt-Assertion": token}


def cookie(token: str) -> dict[str, str]:
    return {"Host": "claw.example.com", "Cookie": f"theme=dark; CF_Authorization={token}"}


@pytest.mark.parametrize("way", [header, cookie])
async def test_whoever_access_let_through_comes_in_under_his_name(
    keeper: Gatekeeper, team: FakeAccess, way: Callable[[str], dict[str, str]]
) -> None:
    visitor = await admit(keeper, {**way(team.token(email="Alice@Example.com")), "CF-Connecting-IP": "198.51.100.9"})
    assert (visitor.name, visitor.via, visitor.operator) == (EMAIL, "access", True)
    assert visitor.address == "198.51.100.9"
    assert not visitor.spent_authorization


async def test_a_service_token_comes_in_under_its_name(keeper: Gatekeeper, team: FakeAccess) -> None:
    visitor = await admit(keeper, header(team.service_token()))
    assert (visitor.name, visitor.via) == (SERVICE, "service")


async def test_one_audience_of_several_on_either_side_is_enough(team: FakeAccess, clock: FakeClock) -> None:
    keeper = make(team, clock, audiences=("another-application", AUDIENCE))
    await admit(keeper, header(team.token(aud=["a-third-one", AUDIENCE])))
    await admit(keeper, header(team.token(aud=AUDIENCE)))
    await keeper.close()


async def test_a_header_and_a_cookie_of_one_person_agree(keeper: Gatekeeper, team: FakeAccess) -> None:
    token = team.token()
    await admit(keeper, {**header(token), **cookie(token)})
    await admit(keeper, {**header(token), **cookie(team.token(nonce="another one of the same person"))})


def attacks(team: FakeAccess, clock: FakeClock) -> dict[str, dict[str, str] | list[tuple[str, str]]]:
    """Each of these is to be refused."""
    now = int(clock.time())
    claims = team.claims()
    kid = team.keys[0].kid
    stranger = SigningKey()
    impostor = SigningKey(kid)
    secret = team.keys[0].public_pem
    confused = unsigned({"alg": "HS256", "kid": kid}, claims).rpartition(".")[0]
    hs256 = confused + "." + unsigned({}, {}, hmac.digest(secret, confused.encode(), "sha256")).rpartition(".")[2]
    good = team.token()
    tampered = ".".join([good.split(".")[0], unsigned({}, team.claims(email="eve@example.com")).split(".")[1], ""])
    two_cookies = f"CF_Authorization={good}; CF_Authorization={team.token(email='eve@example.com')}"
    return {
        "nothing": {"Host": "claw.example.com"},
        "an empty header": header(""),
        "no token at all": header("nonsense"),
        "two parts": header(good.rpartition(".")[0]),
        "five parts": header(good + ".x.y"),
        "alg none": header(unsigned({"alg": "none", "kid": kid}, claims)),
        "alg None in another case": header(unsigned({"alg": "nOnE", "kid": kid}, claims)),
        "alg none with a signature": header(unsigned({"alg": "none", "kid": kid}, claims, b"x")),
        "HS256 with the public key": header(hs256),
        "RS512": header(_signed_as("RS512", team)),
        "PS256": header(_signed_as("PS256", team)),
        "no signature": header(good.rpartition(".")[0] + "."),
        "other claims under a signature": header(tampered + good.split(".")[2]),
        "a stranger's key": header(team.token(key=stranger)),
        "a stranger's key under a known id": header(team.token(key=impostor)),
        "no kid": header(team.token(header={"kid": ""})),
        "a stranger's key brought along": header(team.token(key=impostor, header={"jwk": impostor.jwk})),
        "a stranger's key by address": header(team.token(key=stranger, header={"jku": team.url + "/elsewhere"})),
        "a stranger's certificate by address": header(team.token(key=stranger, header={"x5u": team.url})),
        "crit": header(team.token(header={"crit": ["exp"]})),
        "crit of nothing": header(team.token(header={"crit": []})),
        "crit with b64": header(team.token(header={"crit": ["b64"], "b64": True})),
        "a payload that is not encoded": header(unsigned({"alg": "RS256", "kid": kid, "b64": False}, claims, b"x")),
        "another application": header(team.token(aud=["another"])),
        "no application": header(team.token(aud=None)),
        "an application that begins alike": header(team.token(aud=[AUDIENCE[:-1]])),
        "another team": header(team.token(iss="https://evil.cloudflareaccess.com")),
        "a team that begins alike": header(team.token(iss=team.url + "/")),
        "no team": header(team.token(iss=None)),
        "expired": header(team.token(iat=now - 7200, nbf=now - 7200, exp=now - 11)),
        "never expires": header(team.token(exp=None)),
        "expires as a text": header(team.token(exp="tomorrow")),
        "expires at infinity": header(unsigned({"alg": "RS256", "kid": kid}, {**claims, "exp": float("inf")})),
        "not valid yet": header(team.token(nbf=now + 12)),
        "issued in the future": header(team.token(iat=now + 12, nbf=now)),
        "issued at no time": header(team.token(iat=True)),
        "issued after it ends": header(team.token(iat=now, nbf=now, exp=now - 5)),
        "nobody": header(team.token(email=None)),
        "an empty name": header(team.token(email="")),
        "a name with a line break": header(team.token(email="a@example.com\r\nX-Forwarded-User: root")),
        "a name that is none": header(team.token(email=["alice@example.com"])),
        "a name beyond all measure": header(team.token(email="a" * 400 + "@example.com")),
        "an oversized token": header(team.token(padding="x" * 9000)),
        "header and cookie of two people": {**header(good), **cookie(team.token(email="eve@example.com"))},
        "a good header and a forged cookie": {**header(good), **cookie(team.token(key=stranger))},
        "a forged header and a good cookie": {**header(team.token(key=stranger)), **cookie(good)},
        "two headers": [*header(good).items(), ("cf-access-jwt-assertion", team.token(email="eve@example.com"))],
        "two cookies": {"Host": "claw.example.com", "Cookie": two_cookies},
        "as a bearer": {"Host": "claw.example.com", "Authorization": f"Bearer {good}"},
        "by an identity header alone": {
            "Host": "claw.example.com",
            "Cf-Access-Authenticated-User-Email": EMAIL,
            "X-Forwarded-User": EMAIL,
        },
        "a wrong operator token": {"Host": "claw.example.com", "Authorization": "Bearer wrong"},
    }


def _signed_as(algorithm: str, team: FakeAccess) -> str:
    import jwt

    return jwt.encode(team.claims(), team.keys[0].private, algorithm, {"kid": team.keys[0].kid})


async def test_every_attack_is_refused_and_tells_nothing_of_the_token(
    keeper: Gatekeeper, team: FakeAccess, clock: FakeClock
) -> None:
    await admit(keeper, header(team.token()))  # with the keys at hand, so that none is refused for their lack
    for name, values in attacks(team, clock).items():
        error = await refused(keeper, values)
        assert error.status == 401, name
        assert "eyJ" not in str(error.as_dict()), name
    await admit(keeper, header(team.token()))


async def test_a_small_difference_between_clocks_is_none(
    keeper: Gatekeeper, team: FakeAccess, clock: FakeClock
) -> None:
    now = int(clock.time())
    await admit(keeper, header(team.token(iat=now + 8, nbf=now + 8)))
    await admit(keeper, header(team.token(iat=now - 100, nbf=now - 100, exp=now - 8)))
    await admit(keeper, header(team.token(iat=None, nbf=None)))


async def test_operators_are_those_who_are_listed(team: FakeAccess, clock: FakeClock) -> None:
    keeper = make(team, clock, operators=("ALICE@example.com", SERVICE))
    assert (await admit(keeper, header(team.token()))).operator
    assert (await admit(keeper, header(team.service_token()))).operator
    bob = header(team.token(email="bob@example.com"))
    assert not (await admit(keeper, bob, access=Access.USER)).operator
    error = await refused(keeper, bob)
    assert (error.status, error.code) == (403, "operators-only")
    assert (await refused(keeper, header(team.service_token("another.access")))).status == 403
    # A service that brings the operator token along is one.
    machine = {**header(team.service_token("another.access")), "Authorization": f"Bearer {OPERATOR_TOKEN}"}
    assert (await admit(keeper, machine)).spent_authorization
    await keeper.close()


@pytest.mark.parametrize(("secret", "via"), [(OPERATOR_TOKEN, "bearer"), (LOCAL, "local")])
async def test_machines_come_in_with_the_operator_token_and_commands_with_the_daemons_own(
    keeper: Gatekeeper, secret: str, via: str
) -> None:
    visitor = await admit(keeper, {"Host": "127.0.0.1", "Authorization": f"Bearer {secret}"})
    assert (visitor.name, visitor.via, visitor.spent_authorization) == ("operator", via, True)


async def test_wrong_operator_tokens_are_not_tried_for_ever(keeper: Gatekeeper, clock: FakeClock) -> None:
    wrong = {"Host": "claw.example.com", "Authorization": "Bearer wrong"}
    for _ in range(10):
        assert (await refused(keeper, wrong)).status == 401
    assert (await refused(keeper, wrong)).status == 429


@pytest.mark.parametrize("changes", [{"method": "POST"}, {"method": "DELETE"}])
async def test_another_site_cannot_make_a_browser_act(
    keeper: Gatekeeper, team: FakeAccess, changes: dict[str, str]
) -> None:
    values = {**cookie(team.token()), "Origin": "https://evil.example"}
    assert (await refused(keeper, values, **changes)).code == "cross-site"
    await admit(keeper, {**values, "Origin": "https://claw.example.com"}, **changes)


async def test_another_site_cannot_open_a_websocket(keeper: Gatekeeper, team: FakeAccess) -> None:
    values = {**cookie(team.token()), "Origin": "https://evil.example", "Upgrade": "websocket"}
    assert (await refused(keeper, values)).code == "cross-site"
    await admit(keeper, {**values, "Origin": "https://claw.example.com"})


async def test_an_open_path_needs_no_token(keeper: Gatekeeper, team: FakeAccess) -> None:
    assert (await admit(keeper, header("nonsense"), access=Access.OPEN)).name == "anyone"
    assert team.requests == 0


def test_the_mode_needs_a_team_and_an_application() -> None:
    for access in (None, AccessRules("https://team.cloudflareaccess.com", ())):
        with pytest.raises(SettingsError, match="access"):
            gatekeeper("access", listen_host="0.0.0.0", operator_token=None, access=access)


async def test_a_real_clock_is_used_where_none_is_given() -> None:
    async with fake_access(now=time.time()) as team:
        keeper = make(team)
        assert isinstance(keeper, AccessGatekeeper)
        await admit(keeper, header(team.token()))
        await keeper.close()


async def test_a_person_who_is_not_let_in_is_told_on_a_page(team: FakeAccess, clock: FakeClock) -> None:
    browser = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
    bob = {**browser, "Cf-Access-Jwt-Assertion": team.token(email="bob@example.com")}
    keeper = make(team, clock, operators=(EMAIL,))
    async with front_door(None, keeper=keeper) as door, aiohttp.ClientSession() as session:
        for path, headers, status, words in (
            ("/", browser, 401, "did not come through Cloudflare Access"),
            ("/_admin/", bob, 403, "bob@example.com is none"),
        ):
            async with session.get(door.url + path, headers=headers) as answer:
                assert answer.status == status
                assert answer.content_type == "text/html"
                assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                assert words in await answer.text()


@pytest.mark.parametrize("secret", [OPERATOR_TOKEN, LOCAL])
async def test_what_counts_beside_access_does_not_reach_the_agent_on_a_public_path(
    team: FakeAccess, clock: FakeClock, secret: str
) -> None:
    seen: list[str | None] = []

    async def agent(request: web.Request) -> web.Response:
        assert secret not in str(request.raw_headers)
        seen.append(request.headers.get("Authorization"))
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", agent)
    async with (
        agent_server(app) as address,
        front_door(address, keeper=make(team, clock), public_paths=["/hooks/*"]) as door,
        aiohttp.ClientSession() as session,
    ):
        for authorization in (f"Bearer {secret}", "Bearer a-webhooks-own"):
            sent = {**header(team.token()), "Authorization": authorization}
            async with session.post(door.url + "/hooks/x", headers=sent) as answer:
                assert answer.status == 200
    assert seen == [None, "Bearer a-webhooks-own"]


async def test_through_the_door_the_agent_gets_neither_the_token_nor_what_was_forged(
    team: FakeAccess, clock: FakeClock
) -> None:
    seen: list[tuple[str, str]] = []

    async def agent(request: web.Request) -> web.Response:
        seen.extend(request.headers.items())
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", agent)
    token = team.token()
    sent = {**cookie(token), **header(token), "X-Forwarded-User": "eve@example.com", "X-Forwarded-For": "9.9.9.9"}
    async with (
        agent_server(app) as address,
        front_door(address, keeper=make(team, clock)) as door,
        aiohttp.ClientSession() as session,
    ):
        async with session.get(door.url + "/", headers=sent) as answer:
            assert answer.status == 200, door.log.events
        async with session.get(door.url + "/", headers={"X-Forwarded-User": EMAIL}) as answer:
            assert answer.status == 401
            assert "Bearer" in answer.headers["WWW-Authenticate"]
        async with session.post(door.url + "/api/admin/snapshots", headers={"Host": "claw.example.com"}) as answer:
            assert answer.status == 401
    told = str(seen)
    assert token not in told
    assert "9.9.9.9" not in told
    assert "eve" not in told
    assert "theme=dark" in told
    assert token not in str(door.log.events)
    assert hashlib.sha256(token.encode()).hexdigest() not in told
