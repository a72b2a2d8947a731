import pytest

from supervisor.http.answers import HttpError
from supervisor.http.attempts import Allowance, Attempts
from tests.support.clock import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def attempts(clock: FakeClock, **options: int) -> Attempts:
    return Attempts(clock.monotonic, one=Allowance(3, 10.0), everybody=Allowance(8, 5.0), **options)


def blocked(attempts: Attempts, peer: str) -> int:
    """Seconds to wait, 0 for none."""
    try:
        attempts.check(peer)
    except HttpError as error:
        return int(error.headers["Retry-After"]) if error.status == 429 else -1
    return 0


async def test_one_peer_has_so_many_attempts_and_then_one_more_now_and_then(clock: FakeClock) -> None:
    limit = attempts(clock)
    for _ in range(3):
        assert not blocked(limit, "203.0.113.7")
        limit.wrong("203.0.113.7")
    assert blocked(limit, "203.0.113.7") == 10
    assert not blocked(limit, "203.0.113.8")
    await clock.advance(4)
    assert blocked(limit, "203.0.113.7") == 6
    await clock.advance(6)
    assert not blocked(limit, "203.0.113.7")
    limit.wrong("203.0.113.7")
    assert blocked(limit, "203.0.113.7") == 10


async def test_many_peers_together_have_a_limit_too(clock: FakeClock) -> None:
    limit = attempts(clock)
    for number in range(8):
        limit.wrong(f"203.0.113.{number}")
    assert blocked(limit, "198.51.100.1") == 5
    await clock.advance(5)
    assert not blocked(limit, "198.51.100.1")


def test_an_ipv6_network_and_a_mapped_address_count_once(clock: FakeClock) -> None:
    limit = attempts(clock)
    for number in range(3):
        limit.wrong(f"2001:db8:1:2::{number}")
    assert blocked(limit, "2001:db8:1:2:ffff::1")
    assert not blocked(limit, "2001:db8:1:3::1")
    for peer in ("::ffff:203.0.113.7", "203.0.113.7", "203.0.113.7"):
        limit.wrong(peer)
    assert blocked(limit, "203.0.113.7")


def test_memory_stays_bounded_whoever_comes(clock: FakeClock) -> None:
    limit = Attempts(clock.monotonic, everybody=Allowance(10**6, 1.0), max_peers=50)
    for number in range(5000):
        limit.wrong(f"10.{number >> 8}.{number & 255}.1")
    limit.wrong("no address at all")
    assert len(limit) == 50
