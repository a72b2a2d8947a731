import asyncio
from collections.abc import AsyncIterator

import pytest

from supervisor.http.access_keys import FRESH_SECONDS, RETRY_SECONDS, STALE_SECONDS, AccessKeys, read_keys
from supervisor.http.answers import HttpError
from tests.support.access import FakeAccess, SigningKey, fake_access
from tests.support.clock import FakeClock
from tests.unit.http.support import free_port, until


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def team() -> AsyncIterator[FakeAccess]:
    async with fake_access() as access:
        yield access


@pytest.fixture
def troubles() -> list[str]:
    return []


@pytest.fixture
async def keys(team: FakeAccess, clock: FakeClock, troubles: list[str]) -> AsyncIterator[AccessKeys]:
    keys = AccessKeys(team.url, clock, troubles.append)
    yield keys
    await keys.close()


async def refused(keys: AccessKeys, kid: str) -> int:
    with pytest.raises(HttpError) as caught:
        await keys.key(kid)
    return caught.value.status


async def test_keys_are_fetched_once_for_everybody_who_waits(keys: AccessKeys, team: FakeAccess) -> None:
    team.hold.clear()
    waiting = [asyncio.ensure_future(keys.key(team.keys[0].kid)) for _ in range(20)]
    await until(lambda: team.requests)
    team.hold.set()
    assert len({key.public_numbers().n for key in await asyncio.gather(*waiting)}) == 1
    assert team.requests == 1


async def test_one_who_leaves_while_keys_are_fetched_takes_nothing_from_the_others(
    keys: AccessKeys, team: FakeAccess
) -> None:
    team.hold.clear()
    first, second = (asyncio.ensure_future(keys.key(team.keys[0].kid)) for _ in range(2))
    await until(lambda: team.requests)
    first.cancel()
    team.hold.set()
    assert await second
    assert team.requests == 1


async def test_keys_are_kept_for_an_hour(keys: AccessKeys, team: FakeAccess, clock: FakeClock) -> None:
    kid = team.keys[0].kid
    await keys.key(kid)
    await clock.advance(FRESH_SECONDS - 1)
    await keys.key(kid)
    assert team.requests == 1
    await clock.advance(2)
    await keys.key(kid)
    await until(lambda: team.requests == 2)


async def test_a_new_key_is_found_at_once(keys: AccessKeys, team: FakeAccess, clock: FakeClock) -> None:
    before = team.keys[0].kid
    await keys.key(before)
    after = team.rotate().kid
    await clock.advance(RETRY_SECONDS)
    await keys.key(after)
    await keys.key(before)
    assert team.requests == 2


async def test_invented_key_ids_do_not_make_us_ask_again_and_again(
    keys: AccessKeys, team: FakeAccess, clock: FakeClock
) -> None:
    await keys.key(team.keys[0].kid)
    for number in range(50):
        assert await refused(keys, f"invented-{number}") == 401
    assert team.requests == 1
    await clock.advance(RETRY_SECONDS)
    for number in range(50):
        assert await refused(keys, f"invented-{number}") == 401
    assert team.requests == 2


@pytest.mark.parametrize("outage", ["error", "redirect", "nonsense", "huge", "empty"])
async def test_without_keys_nobody_is_let_in_and_the_reason_is_told(
    keys: AccessKeys, team: FakeAccess, clock: FakeClock, troubles: list[str], outage: str
) -> None:
    team.outage = outage
    assert await refused(keys, team.keys[0].kid) == 503
    assert await refused(keys, team.keys[0].kid) == 503
    assert team.requests == 1, "not asked again within a moment"
    assert team.url in troubles[-1]
    team.outage = None
    await clock.advance(RETRY_SECONDS)
    await keys.key(team.keys[0].kid)
    assert troubles[-1] == ""


async def test_nobody_at_the_address_is_an_outage_too(clock: FakeClock) -> None:
    keys = AccessKeys(f"http://127.0.0.1:{free_port()}", clock)
    assert await refused(keys, "any") == 503
    await keys.close()


async def test_keys_that_are_known_outlast_an_outage_of_a_day_and_no_more(
    keys: AccessKeys, team: FakeAccess, clock: FakeClock
) -> None:
    kid = team.keys[0].kid
    await keys.key(kid)
    team.outage = "error"
    await clock.advance(STALE_SECONDS - 1)
    await keys.key(kid)
    await until(lambda: team.requests == 2)
    await clock.advance(2)
    assert await refused(keys, kid) == 503


async def test_a_slow_answer_keeps_nobody_waiting_whose_key_is_known(
    keys: AccessKeys, team: FakeAccess, clock: FakeClock
) -> None:
    kid = team.keys[0].kid
    await keys.key(kid)
    team.hold.clear()
    await clock.advance(FRESH_SECONDS + 1)
    await keys.key(kid)
    await until(lambda: team.requests == 2)
    team.hold.set()


async def test_a_key_that_the_team_withdrew_counts_no_more(
    keys: AccessKeys, team: FakeAccess, clock: FakeClock
) -> None:
    withdrawn = team.keys[0].kid
    await keys.key(withdrawn)
    team.keys = [SigningKey()]
    await clock.advance(RETRY_SECONDS)
    await keys.key(team.keys[0].kid)
    await clock.advance(RETRY_SECONDS)
    assert await refused(keys, withdrawn) == 401


def test_keys_that_are_weak_or_for_something_else_are_left_out() -> None:
    import json

    good = SigningKey("good").jwk
    rows = [
        SigningKey("weak", bits=1024).jwk,
        {**SigningKey("encryption").jwk, "use": "enc"},
        {**SigningKey("other").jwk, "alg": "RS512"},
        {"kid": "elliptic", "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kid": "shared", "kty": "oct", "k": "c2VjcmV0"},
        {**SigningKey("broken").jwk, "n": "!"},
        {**SigningKey().jwk, "kid": 7},
        "nonsense",
        good,
        {**SigningKey().jwk, "kid": "good"},
    ]
    keys = read_keys(json.dumps({"keys": rows}).encode())
    assert list(keys) == ["good"]
    with pytest.raises(ValueError, match="usable"):
        read_keys(json.dumps({"keys": rows[:3]}).encode())
