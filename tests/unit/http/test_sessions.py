import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from supervisor.http.sessions import MAX_REVOKED, SESSION_SECONDS, Sessions
from tests.support.clock import FakeClock

TOKEN = "a-long-enough-operator-token"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def with_cookies(*values: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict([("Cookie", value) for value in values]))


def crumb(set_cookie: str) -> str:
    return set_cookie.partition(";")[0]


@pytest.mark.parametrize(
    ("secure", "start", "end"),
    [
        (True, "__Host-moltinit_session=", "; Path=/; HttpOnly; SameSite=Strict; Secure"),
        (False, "moltinit_session=", "; Path=/; HttpOnly; SameSite=Strict"),
    ],
)
def test_a_cookie_is_strict_and_on_https_bound_to_the_host(
    clock: FakeClock, secure: bool, start: str, end: str
) -> None:
    sessions = Sessions(TOKEN, clock.time)
    cookie = sessions.issue(secure=secure)
    assert cookie.startswith(start)
    assert cookie.endswith(f"; Max-Age={SESSION_SECONDS}{end}")
    assert TOKEN not in cookie
    assert sessions.valid(with_cookies("a=1; " + crumb(cookie)))


async def test_a_session_ends_when_its_time_is_over_whatever_the_browser_thinks(clock: FakeClock) -> None:
    sessions = Sessions(TOKEN, clock.time)
    cookie = crumb(sessions.issue(secure=True))
    await clock.advance(SESSION_SECONDS - 2)
    assert sessions.valid(with_cookies(cookie))
    await clock.advance(2)
    assert not sessions.valid(with_cookies(cookie))


def test_the_next_vm_knows_the_session_and_another_token_ends_it(clock: FakeClock) -> None:
    cookie = crumb(Sessions(TOKEN, clock.time).issue(secure=True))
    assert Sessions(TOKEN, clock.time).valid(with_cookies(cookie))
    assert not Sessions(TOKEN + "2", clock.time).valid(with_cookies(cookie))


def test_two_sessions_do_not_share_a_value(clock: FakeClock) -> None:
    sessions = Sessions(TOKEN, clock.time)
    assert sessions.issue(secure=True) != sessions.issue(secure=True)


def test_what_was_changed_or_made_up_is_no_session(clock: FakeClock) -> None:
    sessions = Sessions(TOKEN, clock.time)
    name, _, value = crumb(sessions.issue(secure=False)).partition("=")
    version, expiry, nonce, signature = value.split(".")
    longer = str(int(expiry) + 1)
    for made_up in (
        "",
        ".",
        "...",
        "x" * 10_000,
        f"{version}.{longer}.{nonce}.{signature}",
        f"{version}.{expiry}.{nonce}x.{signature}",
        f"{version}.{expiry}.{nonce}.{signature[:-1]}",
        f"{version}.{expiry}.{nonce}.",
        f"{version}.{expiry}.{nonce}",
        f"{value}\udcff",
        f"{value}ü",
    ):
        assert not sessions.valid(with_cookies(f"{name}={made_up}")), made_up
    assert not sessions.valid(with_cookies(f"other={value}"))
    assert not sessions.valid(with_cookies())


def test_a_session_that_was_slipped_in_beside_another_one_counts_for_nothing(clock: FakeClock) -> None:
    sessions = Sessions(TOKEN, clock.time)
    one, two = (crumb(sessions.issue(secure=False)) for _ in range(2))
    assert not sessions.valid(with_cookies(f"{one}; {two}"))
    assert not sessions.valid(with_cookies(one, two))
    assert sessions.valid(with_cookies(f"{one}; {one}"))


def test_a_session_that_was_signed_out_is_void_for_whoever_has_a_copy(clock: FakeClock) -> None:
    sessions = Sessions(TOKEN, clock.time)
    one, two = (crumb(sessions.issue(secure=True)) for _ in range(2))
    gone = sessions.end(with_cookies(one))
    assert [cookie.partition("=")[0] for cookie in gone] == ["__Host-moltinit_session", "moltinit_session"]
    assert all("Max-Age=0" in cookie for cookie in gone)
    assert not sessions.valid(with_cookies(one))
    assert sessions.valid(with_cookies(two))


def test_made_up_sessions_take_no_memory_when_they_are_signed_out(clock: FakeClock) -> None:
    sessions = Sessions(TOKEN, clock.time)
    for number in range(10):
        sessions.end(with_cookies(f"moltinit_session=1.9999999999.{number}.made-up"))
    assert not sessions._revoked
    for _ in range(MAX_REVOKED + 5):
        sessions.end(with_cookies(crumb(sessions.issue(secure=True))))
    assert len(sessions._revoked) == MAX_REVOKED
