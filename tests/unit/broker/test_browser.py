"""The browser's broker before servers that answer as Chrome, Browser Run and moltworker's Worker do."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from supervisor.broker.cdp import Browser, Kind, browser
from tests.unit.broker.support import Rig, rig, upstream

SECRET = "the-browsers-secret-0123"
VARIABLES = {"MOLTINIT_BROWSER_TOKEN": SECRET, "CDP_SECRET": SECRET}
SESSIONS = "/client/v4/accounts/x/browser-rendering/devtools/browser"


class Far:
    """A browser far away: it echoes messages, and keeps what it was asked."""

    def __init__(self, *, prefix: str = "", own_name: str = "ws://127.0.0.1:9222") -> None:
        self.prefix = prefix
        self.own_name = own_name
        self.asked: list[str] = []
        self.credentials: list[str] = []
        self.alive = True
        self.sessions = 0
        self.left = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.raw_path}")
        self.credentials.append(request.headers.get("Authorization", "") + request.query.get("secret", ""))
        path = request.path.removeprefix(self.prefix)
        if request.headers.get("Upgrade") == "websocket":
            return await self._echo(request, path)
        if not self.prefix.startswith("/client"):
            return web.json_response(self._document(path, self.own_name))
        if request.method == "POST":
            self.sessions += 1
            self.alive = True
            return web.json_response({"sessionId": f"s{self.sessions}", "webSocketDebuggerUrl": "wss://elsewhere/x"})
        session, _, rest = path.removeprefix("/").partition("/")
        if not self.alive or session != f"s{self.sessions}":
            return web.json_response({"success": False}, status=404)
        document = self._document(f"/{rest}", f"wss://api.cloudflare.com{self.prefix}/{session}")
        return web.json_response({"success": True, "result": document})

    def _document(self, path: str, name: str) -> Any:
        page = {
            "id": "P1",
            "type": "page",
            "title": "A page",
            "url": "https://a.example/",
            "webSocketDebuggerUrl": f"{name}/devtools/page/P1?secret={SECRET}",
            "devtoolsFrontendUrl": f"https://devtools.example/?ws={SECRET}",
        }
        if path == "/json/version":
            return {"Browser": "Chrome/1", "webSocketDebuggerUrl": f"{name}/devtools/browser/B1?secret={SECRET}"}
        return [page, {"id": "../evil"}, "nonsense"] if path == "/json/list" else page

    async def _echo(self, request: web.Request, path: str) -> web.StreamResponse:
        if self.prefix.startswith("/client") and not self.alive:
            return web.Response(status=410)
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        await socket.send_str(path)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        self.left.set()
        return socket


def get(agent: Rig, path: str, method: str = "GET") -> Any:
    mark = "&" if "?" in path else "?"
    return agent.ask(f"/browser{path}{mark}token={agent.token}", method=method)


def connect(agent: Rig, path: str = "/devtools/browser/agent", **options: Any) -> Any:
    return agent.client.ws_connect(f"{agent.url}/browser{path}?token={agent.token}", **options)


def chrome(url: str) -> Browser:
    return Browser(Kind.DISCOVERY, url, "MOLTINIT_BROWSER_TOKEN")


async def test_discovery_leads_to_the_broker_and_holds_no_secret() -> None:
    far = Far()
    async with upstream(far.answer) as url, rig(url, variables=VARIABLES, browser=chrome(url)) as agent:
        local = agent.url.replace("http", "ws") + "/browser"
        _, version, _ = await get(agent, "/json/version")
        assert version == {
            "Browser": "Chrome/1",
            "Protocol-Version": "1.3",
            "webSocketDebuggerUrl": f"{local}/devtools/browser/agent",
        }
        _, listing, _ = await get(agent, "/json/list")
        page = {"id": "P1", "type": "page", "title": "A page", "url": "https://a.example/"}
        assert listing == [{**page, "webSocketDebuggerUrl": f"{local}/devtools/page/P1"}]
        _, made, _ = await get(agent, "/json/new?https://a.example/?x=1&y=2", "PUT")
        assert made["id"] == "P1"
        assert "PUT /json/new?https%3A%2F%2Fa.example%2F%3Fx%3D1%26y%3D2" in far.asked
        assert (await get(agent, "/json/close/P1"))[0] == 200
        assert set(far.credentials) == {f"Bearer {SECRET}"}
        assert SECRET not in json.dumps([version, listing, made])


async def test_sockets_go_where_discovery_said_on_the_configured_host_alone() -> None:
    far = Far()
    async with upstream(far.answer) as url, rig(url, variables=VARIABLES, browser=chrome(url)) as agent:
        async with connect(agent) as socket:
            assert (await socket.receive()).data == "/devtools/browser/B1"
        async with connect(agent, "/devtools/page/P1") as socket:
            assert (await socket.receive()).data == "/devtools/page/P1"
        for path in ("/devtools/page/P2", "/devtools/page/..%2fP1", "/devtools/worker/P1", "/devtools/page/P1/x"):
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await connect(agent, path)


async def test_messages_pass_both_ways_up_to_sixty_four_mebibytes() -> None:
    far = Far()
    async with (
        upstream(far.answer) as url,
        rig(url, variables=VARIABLES, browser=chrome(url)) as agent,
        connect(agent, max_msg_size=0) as socket,
    ):
        await socket.receive()
        text = "x" * (20 << 20)
        await socket.send_str(text)
        assert (await socket.receive()).data == text
        await socket.send_bytes(b"\x00\x01")
        assert (await socket.receive()).data == b"\x00\x01"
        with suppress(ConnectionError, aiohttp.ClientError):
            await socket.send_str("x" * (65 << 20))
        assert (await socket.receive()).type in (WSMsgType.CLOSE, WSMsgType.ERROR, WSMsgType.CLOSED)


async def test_without_the_token_there_is_no_browser() -> None:
    far = Far()
    async with upstream(far.answer) as url, rig(url, variables=VARIABLES, browser=chrome(url)) as agent:
        for query in ("", "?token=guessed"):
            async with agent.client.get(f"{agent.url}/browser/json/version{query}") as answer:
                assert answer.status == 401
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await agent.client.ws_connect(f"{agent.url}/browser/devtools/browser/agent{query}")
        assert far.asked == []


async def test_no_more_connections_than_allowed_at_once() -> None:
    far = Far()
    async with (
        upstream(far.answer) as url,
        rig(url, variables=VARIABLES, browser=chrome(url), browser_sessions=2) as agent,
        connect(agent),
        connect(agent) as second,
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await connect(agent)
        assert caught.value.status == 429
        await second.close()
        async with asyncio.timeout(5):
            await far.left.wait()
        async with connect(agent):
            pass


async def test_a_connection_that_nobody_uses_is_let_go() -> None:
    far = Far()
    async with (
        upstream(far.answer) as url,
        rig(url, variables=VARIABLES, browser=chrome(url), browser_idle=60) as agent,
        connect(agent) as socket,
    ):
        await socket.receive()
        await agent.clock.advance(50)
        await socket.send_str("still here")
        assert (await socket.receive()).data == "still here"
        await agent.clock.advance(50)
        assert not socket.closed
        receiving = asyncio.ensure_future(socket.receive())
        await agent.clock.advance(20)
        assert (await receiving).type is WSMsgType.CLOSE
        assert socket.close_code == 1001
        async with asyncio.timeout(5):
            await far.left.wait()


async def test_a_session_at_browser_run_begins_with_use_and_is_kept_and_given_back() -> None:
    far = Far(prefix=SESSIONS)
    async with upstream(far.answer) as url:
        kept = Browser(Kind.SESSIONS, url + SESSIONS, "MOLTINIT_BROWSER_TOKEN")
        async with rig(url, variables=VARIABLES, browser=kept, browser_idle=120) as agent:
            assert (await get(agent, "/json/version"))[1]["webSocketDebuggerUrl"].startswith("ws://127.0.0.1")
            assert (await get(agent, "/json/list"))[1] == []
            assert far.asked == [], "to ask whether there is a browser costs nothing"
            async with connect(agent) as socket:
                assert (await socket.receive()).data == "/s1"
            assert far.asked[0] == f"POST {SESSIONS}?keep_alive=120000"
            assert [page["id"] for page in (await get(agent, "/json/list"))[1]] == ["P1"]
            assert (await get(agent, "/json/new?url=https://a.example/", "PUT"))[1]["id"] == "P1"
            assert far.asked[-1] == f"PUT {SESSIONS}/s1/json/new?url=https%3A%2F%2Fa.example%2F"
            async with connect(agent, "/devtools/page/P1") as socket:
                assert (await socket.receive()).data == "/s1/devtools/page/P1"
            await get(agent, "/json/close/P1")
            assert far.asked[-1] == f"DELETE {SESSIONS}/s1/json/close/P1"
            assert far.sessions == 1
            far.alive = False
            async with connect(agent) as socket:
                assert (await socket.receive()).data == "/s2", "a session that is over is begun anew"
        assert far.asked[-1] == f"DELETE {SESSIONS}/s2"
        assert set(far.credentials) == {f"Bearer {SECRET}"}


async def test_moltworkers_endpoint_gets_its_secret_from_the_broker() -> None:
    far = Far(prefix="/cdp", own_name="wss://worker.example/cdp")
    async with upstream(far.answer) as url:
        worker = browser({"CDP_SECRET": SECRET, "WORKER_URL": url})
        assert worker is not None
        async with rig(url, variables=VARIABLES, browser=worker) as agent:
            _, version, _ = await get(agent, "/json/version")
            assert SECRET not in json.dumps(version)
            async with connect(agent) as socket:
                assert (await socket.receive()).data.startswith("/devtools/browser/")
        assert set(far.credentials) == {SECRET}


async def test_a_plain_websocket_is_enough_for_a_browser() -> None:
    far = Far()
    async with upstream(far.answer) as url:
        only = browser({"MOLTINIT_BROWSER_URL": url.replace("http", "ws") + "/run", "MOLTINIT_BROWSER_TOKEN": SECRET})
        assert only is not None
        async with rig(url, variables=VARIABLES, browser=only) as agent:
            assert (await get(agent, "/json/version"))[0] == 200
            assert (await get(agent, "/json/list"))[1] == []
            assert (await get(agent, "/json/new", "PUT"))[0] == 501
            async with connect(agent) as socket:
                assert (await socket.receive()).data == "/run"


async def test_trouble_with_the_browser_is_told_without_its_words() -> None:
    async def refusing(request: web.Request) -> web.StreamResponse:
        return web.Response(status=403, text=f"bad token {SECRET}")

    async with upstream(refusing) as url, rig(url, variables=VARIABLES, browser=chrome(url)) as agent:
        status, document, _ = await get(agent, "/json/list")
        assert (status, document) == (502, {"error": "the browser answered with status 403"})
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await connect(agent)
        assert SECRET not in "".join(agent.events)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        (
            {"MOLTINIT_BROWSER_TOKEN": "t", "CF_ACCOUNT_ID": "acc"},
            Browser(
                Kind.SESSIONS,
                "https://api.cloudflare.com/client/v4/accounts/acc/browser-rendering/devtools/browser",
                "MOLTINIT_BROWSER_TOKEN",
            ),
        ),
        ({"MOLTINIT_BROWSER_URL": "https://b.example"}, Browser(Kind.DISCOVERY, "https://b.example")),
        ({"MOLTINIT_BROWSER_URL": "wss://b.example/x"}, Browser(Kind.SOCKET, "wss://b.example/x")),
        (
            {"CDP_SECRET": "s", "WORKER_URL": "https://w.example"},
            Browser(Kind.DISCOVERY, "https://w.example/cdp", "CDP_SECRET", "secret"),
        ),
        ({"CF_ACCOUNT_ID": "acc", "WORKER_URL": "https://w.example"}, None),
    ],
)
def test_where_the_browser_is(variables: dict[str, str], expected: Browser | None) -> None:
    assert browser(variables) == expected
