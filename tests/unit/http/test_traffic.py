from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import pytest
from aiohttp import web

from supervisor.http.traffic import route_of
from tests.unit.http.support import agent_server, front_door, until


class Counted:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.open = 0

    def http_request(self, route: str, status: int) -> None:
        self.requests[route, status] += 1

    @contextmanager
    def websocket(self) -> Iterator[None]:
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1


@pytest.fixture
async def agent() -> AsyncIterator[tuple[str, int]]:
    async def socket(request: web.Request) -> web.WebSocketResponse:
        made = web.WebSocketResponse()
        await made.prepare(request)
        async for message in made:
            await made.send_str(message.data)
        return made

    app = web.Application()
    app.router.add_get("/ws", socket)
    async with agent_server(app) as address:
        yield address


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/livez", "probe"),
        ("/api/status", "probe"),
        ("/metrics", "watch"),
        ("/api/admin/snapshots", "api"),
        ("/_admin/", "page"),
        ("/_admin", "page"),
        ("/_administrator", "agent"),
        ("/api/adminx", "agent"),
        ("/", "agent"),
    ],
)
def test_a_path_has_one_of_a_few_classes(path: str, route: str) -> None:
    assert route_of(path) == route


async def test_requests_are_counted_whatever_became_of_them(agent: tuple[str, int]) -> None:
    counted = Counted()
    async with front_door(agent, traffic=counted) as door, aiohttp.ClientSession() as session:
        for path in ("/livez", "/status", "/api/admin/nothing", "/nothing"):
            async with session.get(door.url + path):
                pass
        async with session.get(door.url + "/status", headers={"Host": "evil.example"}):
            pass
    assert counted.requests == {
        ("probe", 200): 1,
        ("watch", 200): 1,
        ("api", 404): 1,
        ("agent", 404): 1,
        ("watch", 403): 1,
    }


async def test_a_websocket_counts_while_it_is_open(agent: tuple[str, int]) -> None:
    counted = Counted()
    async with front_door(agent, traffic=counted) as door, aiohttp.ClientSession() as session:
        async with session.ws_connect(door.url + "/ws") as socket:
            await socket.send_str("x")
            assert await socket.receive_str(timeout=5) == "x"
            assert counted.open == 1
        await until(lambda: counted.open == 0)
