from collections.abc import Mapping

from multidict import CIMultiDict, CIMultiDictProxy

from supervisor.http.headers import to_agent, to_client


def passed(
    *pairs: tuple[str, str], spent: bool = False, introduction: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    headers = CIMultiDictProxy(CIMultiDict(pairs))
    return list(
        to_agent(
            headers,
            spent_authorization=spent,
            introduction=introduction or {},
            identity_headers=frozenset({"x-agents-caller"}),
        ).items()
    )


def test_what_a_client_says_about_where_it_comes_from_ends_here() -> None:
    assert passed(
        ("X-Forwarded-For", "1.2.3.4"),
        ("x-forwarded-user", "alice@example.com"),
        ("X_Forwarded_Proto", "https"),
        ("Forwarded", "for=1.2.3.4"),
        ("X-Real-IP", "1.2.3.4"),
        ("CF-Connecting-IP", "1.2.3.4"),
        ("Cf-Access-Jwt-Assertion", "x.y.z"),
        ("Cf-Access-Authenticated-User-Email", "alice@example.com"),
        ("Via", "1.1 x"),
        ("Host", "claw.example.com"),
        ("X-OpenClaw-Session-Key", "agent:main:main"),
    ) == [("Host", "claw.example.com"), ("X-OpenClaw-Session-Key", "agent:main:main")]


def test_headers_of_one_connection_end_with_it_also_where_the_client_names_them() -> None:
    assert passed(
        ("Connection", "close, X-Mine"),
        ("X-Mine", "1"),
        ("Keep-Alive", "5"),
        ("TE", "trailers"),
        ("Transfer-Encoding", "chunked"),
        ("Proxy-Authorization", "Basic x"),
        ("Accept", "*/*"),
    ) == [("Accept", "*/*")]


def test_a_client_cannot_have_the_host_removed_by_naming_it() -> None:
    assert passed(("Connection", "Host"), ("Host", "x")) == [("Host", "x")]


def test_a_spent_authorization_ends_here_and_another_passes() -> None:
    assert passed(("Authorization", "Bearer operator"), spent=True) == []
    assert passed(("Authorization", "Bearer agent")) == [("Authorization", "Bearer agent")]


def test_the_front_doors_word_takes_the_place_of_what_was_forged() -> None:
    told = {"X-Forwarded-User": "alice@example.com", "X-Agents-Caller": "alice"}
    assert passed(
        ("X-Forwarded-User", "eve@example.com"),
        ("x_forwarded_user", "eve@example.com"),
        ("X-Agents-Caller", "eve"),
        ("X_Agents_Caller", "eve"),
        ("Connection", "X-Forwarded-User, X-Agents-Caller"),
        introduction=told,
    ) == list(told.items())


def test_the_front_doors_own_cookies_are_taken_out_and_the_agents_are_kept() -> None:
    assert passed(("Cookie", "a=1; CF_Authorization=x.y.z; b=2")) == [("Cookie", "a=1; b=2")]
    assert passed(("Cookie", "__Host-moltinit_session=x; moltinit_session=y; CF_Authorization = z")) == []
    assert passed(("Cookie", "CF_Authorization=x.y.z")) == []


def test_an_answer_keeps_its_cookies_apart() -> None:
    headers = CIMultiDictProxy(CIMultiDict([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Connection", "close")]))
    assert list(to_client(headers).items()) == [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
