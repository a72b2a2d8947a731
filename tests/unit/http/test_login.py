from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from supervisor.http.login import safe_return_path
from supervisor.http.navigation import without_token
from tests.unit.http.support import TOKEN, Door, agent_server, front_door, token_keeper

BROWSER = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}


@asynccontextmanager
async def door() -> AsyncIterator[tuple[Door, aiohttp.ClientSession, list[web.Request]]]:
    """A front door in token mode before an agent that keeps what it was asked."""
    seen: list[web.Request] = []

    async def agent(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(text="the agent's page")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", agent)
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        agent_server(app) as address,
        front_door(address, keeper=token_keeper()) as running,
        aiohttp.ClientSession(cookie_jar=jar) as session,
    ):
        yield running, session, seen


def form(door: Door, token: str, where: str = "/", **more: str) -> dict[str, object]:
    return {
        "url": door.url + "/_admin/login",
        "data": {"token": token, "next": where, "username": "operator"},
        "headers": {"Origin": door.url, **more},
        "allow_redirects": False,
    }


async def test_a_browser_without_a_session_is_sent_to_the_login_and_afterwards_back() -> None:
    async with door() as (running, session, seen):
        url = running.url + "/chat?session=main&token=in-the-address"
        async with session.get(url, headers=BROWSER, allow_redirects=False) as answer:
            assert answer.status == 303
            login = answer.headers["Location"]
        assert login == "/_admin/login?next=/chat%3Fsession%3Dmain"
        async with session.get(running.url + login) as answer:
            page = await answer.text()
        assert 'name="next" value="/chat?session=main"' in page
        async with session.post(**form(running, TOKEN, "/chat?session=main")) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/chat?session=main")
        async with session.get(running.url + "/chat?session=main", headers=BROWSER) as answer:
            assert await answer.text() == "the agent's page"
        assert "moltinit_session" not in str(seen[-1].headers)
        async with session.get(running.url + "/status") as answer:
            assert answer.status == 200
        assert "in-the-address" not in str(running.log.events)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept": "application/json"},
        {**BROWSER, "Sec-Fetch-Mode": "cors"},
        {**BROWSER, "Upgrade": "websocket", "Connection": "Upgrade"},
    ],
)
async def test_everybody_else_gets_the_401_as_json(headers: dict[str, str]) -> None:
    async with door() as (running, session, _):
        async with session.get(running.url + "/", headers=headers, allow_redirects=False) as answer:
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            assert (await answer.json())["error"]["code"] == "unauthorized"
        async with session.post(running.url + "/", headers=BROWSER, allow_redirects=False) as answer:
            assert answer.status == 401


async def test_a_wrong_token_is_told_in_words_and_not_for_ever() -> None:
    async with door() as (running, session, _):
        for _ in range(10):
            async with session.post(**form(running, "wrong", "/chat")) as answer:
                assert answer.status == 401
                page = await answer.text()
                assert 'role="alert"' in page
                assert 'value="/chat"' in page
                assert "Set-Cookie" not in answer.headers
        async with session.post(**form(running, TOKEN)) as answer:
            assert answer.status == 429
            assert int(answer.headers["Retry-After"]) > 0
            assert "Set-Cookie" not in answer.headers


async def test_who_is_signed_in_is_not_locked_out_by_the_guesses_of_others() -> None:
    async with door() as (running, session, _):
        async with session.post(**form(running, TOKEN)) as answer:
            assert answer.status == 303
        async with aiohttp.ClientSession() as stranger:
            for _ in range(12):
                async with stranger.post(**form(running, "wrong")) as answer:
                    assert answer.status in (401, 429)
        async with session.get(running.url + "/status") as answer:
            assert answer.status == 200


async def test_another_site_can_neither_sign_in_nor_out() -> None:
    async with door() as (running, session, _):
        async with session.post(**form(running, TOKEN, Origin="https://evil.example")) as answer:
            assert answer.status == 403
        async with session.post(**form(running, TOKEN)) as answer:
            assert answer.status == 303
        evil = {"Origin": "https://evil.example"}
        async with session.post(running.url + "/_admin/logout", headers=evil, allow_redirects=False) as answer:
            assert answer.status == 403
        for path, options in (("/status", {}), ("/_admin/x", {})):
            async with session.post(running.url + path, headers=evil, **options) as answer:
                assert answer.status == 403
        upgrade = {**evil, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        async with session.get(running.url + "/", headers=upgrade) as answer:
            assert answer.status == 403


async def test_signing_out_ends_the_session() -> None:
    async with door() as (running, session, _):
        async with session.post(**form(running, TOKEN)) as answer:
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        async with session.get(running.url + "/_admin/login") as answer:
            assert "Sign out" in await answer.text()
        async with session.post(running.url + "/_admin/logout", allow_redirects=False) as answer:
            assert answer.headers["Location"] == "/_admin/login"
        async with aiohttp.ClientSession() as thief, thief.get(running.url + "/", headers={"Cookie": cookie}) as answer:
            assert answer.status == 401


async def test_the_cookie_is_secure_where_the_browser_came_by_https() -> None:
    async with door() as (running, session, _):
        for origin, host, start in (
            ("https://claw.example.com", "claw.example.com", "__Host-moltinit_session="),
            ("http://192.0.2.5:8080", "192.0.2.5:8080", "moltinit_session="),
            ("", "claw.example.com", "__Host-moltinit_session="),
            ("", "127.0.0.1:8080", "moltinit_session="),
        ):
            request = form(running, TOKEN, Host=host)
            request["headers"] = {"Host": host, **({"Origin": origin} if origin else {})}
            async with session.post(**request) as answer:
                assert answer.headers["Set-Cookie"].startswith(start)


async def test_no_secret_in_an_address_is_used() -> None:
    async with door() as (running, session, seen):
        for query in (f"token={TOKEN}", f"access_token={TOKEN}", f"password={TOKEN}"):
            for path in ("/", "/status", "/_admin/login"):
                async with session.get(f"{running.url}{path}?{query}", allow_redirects=False) as answer:
                    assert (answer.status, "Set-Cookie" in answer.headers) == (
                        200 if path == "/_admin/login" else 401,
                        False,
                    )
        empty = {"data": {"token": ""}, "allow_redirects": False}
        async with session.post(f"{running.url}/_admin/login?token={TOKEN}", **empty) as answer:
            assert answer.status == 401
        assert not seen
        assert TOKEN not in str(running.log.events)


async def test_a_token_is_taken_out_of_a_pages_address_before_the_agent_sees_it() -> None:
    async with door() as (running, session, seen):
        headers = {**BROWSER, "Authorization": f"Bearer {TOKEN}"}
        async with session.get(running.url + "/?a=1&TOKEN=x", headers=headers, allow_redirects=False) as answer:
            assert (answer.status, answer.headers["Location"]) == (303, "/?a=1")
        assert not seen
        # What a page loads has addresses of the agent's own making.
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with session.get(running.url + "/media?token=x", headers=headers) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("target", "clean"),
    [
        ("/", None),
        ("/?a=1&b=token", None),
        ("/?token=x", "/"),
        ("/?token", "/"),
        ("/?a=1&token=x&b=%20", "/?a=1&b=%20"),
        ("/?%74oken=x", "/"),
        ("/?a=1&Token=x&token=y", "/?a=1"),
    ],
)
def test_a_token_in_an_address_is_found_however_it_is_written(target: str, clean: str | None) -> None:
    assert without_token(target) == clean


@pytest.mark.parametrize("path", ["/", "/chat?session=main", "/_admin/", "/a/b%20c?x=/y", "/~me"])
def test_a_path_on_this_site_may_be_returned_to(path: str) -> None:
    assert safe_return_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "evil.example",
        "/\t/evil.example",
        "/\r\nSet-Cookie: x=1",
        " //evil.example",
        "/é",
        "/" + "x" * 3000,
        "/_admin/login",
        "/_admin/login?next=/",
        "/_admin/logout",
    ],
)
def test_nothing_else_is_returned_to(path: str) -> None:
    assert safe_return_path(path) == "/"


async def test_the_page_shows_what_it_was_given_as_text() -> None:
    async with door() as (running, session, _):
        async with session.get(running.url + '/_admin/login?next=/"><script>alert(1)</script>') as answer:
            page = await answer.text()
            policy = answer.headers["Content-Security-Policy"]
        assert "<script" not in page
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_form_that_is_none_is_refused() -> None:
    async with door() as (running, session, _):
        url, headers = running.url + "/_admin/login", {"Origin": running.url}
        async with session.post(url, json={"token": TOKEN}, headers=headers) as answer:
            assert answer.status == 415
        async with session.post(url, data={"token": "x" * 100_000}, headers=headers) as answer:
            assert answer.status == 413
        form_type = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
        for body in (b"token=\xff", b"&a=1" * 100):
            async with session.post(url, data=body, headers=form_type) as answer:
                assert answer.status == 400
