"""Worker, Durable Object and container together, in `wrangler dev`: the echo agent, a real bucket, real sleep."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.container import TOKEN, podman
from tests.support.s3 import Bucket
from tests.support.wrangler import AUDIENCE, WORKER, reachable_by_containers, team, wrangler

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (WORKER / "node_modules").exists(), reason="the Worker's tools are not installed: make test-worker"
    ),
]


class Visitor:
    """Somebody with a token of Access."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._url = url
        self._headers = {"Cf-Access-Jwt-Assertion": token, "Authorization": f"Bearer {TOKEN}"}

    async def ask(self, path: str, document: object = None) -> Any:
        """JSON, once the agent is up."""
        deadline = time.monotonic() + 120
        while True:
            method = "GET" if document is None else "POST"
            async with self._session.request(method, self._url + path, json=document, headers=self._headers) as answer:
                if answer.status == 200:
                    return await answer.json()
                text = await answer.text()
            assert time.monotonic() < deadline, f"{path}: {answer.status} {text[:500]}"
            await asyncio.sleep(1)

    async def saved(self) -> None:
        """A snapshot, committed."""
        await self.ask("/api/admin/snapshots", {})

    async def socket(self, text: str) -> str:
        """What the agent says on a WebSocket."""
        async with self._session.ws_connect(self._url + "/ws", headers=self._headers) as socket:
            await socket.send_str(text)
            return str(await socket.receive_str(timeout=30))


async def containers(*options: str) -> list[str]:
    """Ids of the containers that run for the Worker."""
    _, output = await podman("ps", "--filter=name=workerd-moltbot", "--format={{.ID}}", *options)
    return output.split()


async def sweep() -> None:
    """Remove what has ended: the local engine wants the same name again, and docker would have removed it."""
    while True:
        for name in await containers("--all", "--filter=status=exited"):
            await podman("rm", name)
        await asyncio.sleep(0.5)


async def gone(name: str, seconds: float) -> None:
    """Wait until this container has ended."""
    deadline = time.monotonic() + seconds
    while name in await containers():
        assert time.monotonic() < deadline, f"{name} still runs"
        await asyncio.sleep(1)


async def appeared(seconds: float) -> str:
    """Wait until there is one; its id."""
    deadline = time.monotonic() + seconds
    while not (names := await containers()):
        assert time.monotonic() < deadline, "no container was started"
        await asyncio.sleep(1)
    return names[0]


async def test_it_talks_sleeps_is_woken_by_its_next_job_and_survives_an_eviction(
    bucket: Bucket, tmp_path: Path
) -> None:
    async with (
        team() as access,
        reachable_by_containers(bucket.port) as endpoint,
        aiohttp.ClientSession() as session,
    ):
        variables = {
            **bucket.settings(),
            "MOLTINIT_S3_ENDPOINT_URL": endpoint,
            "MOLTINIT_AUTH": "token",
            "MOLTINIT_OPERATOR_TOKEN": TOKEN,
            "CF_ACCESS_TEAM_DOMAIN": access.url,
            "CF_ACCESS_AUD": AUDIENCE,
            "SANDBOX_SLEEP_AFTER": "15s",
        }
        async with wrangler(tmp_path / "worker", variables) as url, asyncio.TaskGroup() as group:
            sweeping = group.create_task(sweep())
            async with session.get(url + "/history") as answer:
                assert answer.status == 401
            assert await containers() == [], "a stranger wakes nothing"

            visitor = Visitor(session, url, access.token("alice@example.com"))
            async with session.get(
                url + "/", headers={"Cf-Access-Jwt-Assertion": access.token("a@b.c"), "Accept": "text/html"}
            ) as answer:
                assert answer.status == 503
                assert "Waking up" in await answer.text()
            assert await visitor.ask("/say", {"text": "MARK-one"}) == {"n": 1}
            assert await visitor.socket("through all layers") == "through all layers"
            first = await appeared(10)

            # Evicted: the machine is gone without a warning.
            await visitor.saved()
            await podman("kill", "--signal=KILL", first)
            await gone(first, 10)
            assert (await visitor.ask("/history"))["history"] == ["MARK-one"], "another machine carries on"

            # A job in 200 s: it sleeps, and is woken a minute before.
            await visitor.ask("/remind", {"seconds": 200, "text": "MARK-job"})
            due = time.monotonic() + 200
            await visitor.saved()
            second = await appeared(10)
            await gone(second, 90)
            third = await appeared(due - time.monotonic())
            assert third
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for _ in range(30):
                history = (await visitor.ask("/history"))["history"]
                if len(history) > 1:
                    break
                await asyncio.sleep(1)
            assert history == ["MARK-one", "MARK-job"], "it was up when its job was due"
            sweeping.cancel()
