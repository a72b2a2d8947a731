"""The real gateway behind the broker: it talks, calls tools, embeds, looks at pages, and holds no key."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent_runtime.openclaw.rpc import Rpc
from tests.support.browser import devtools
from tests.support.daemon import Daemon, descendants, life
from tests.support.model_server import ModelServer, model_server
from tests.support.s3 import Bucket

pytestmark = [pytest.mark.gateway, pytest.mark.timeout(400)]

SESSION = "agent:main:main"
TURN_SECONDS = 180.0
ANTHROPIC_KEY = "sk-ant-the-real-key-of-anthropic-4711"
OPENAI_KEY = "sk-proj-the-real-key-of-openai-4712"
BROWSER_TOKEN = "the-real-token-of-the-browser-4714"
PROJECT = Path(__file__).parents[2]
TELEGRAM_TOKEN = "1234567890:the-real-token-of-telegram-471300000"


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with model_server() as server:
        yield server


@asynccontextmanager
async def gateway(place: Path, bucket: Bucket, openclaw: Path, **variables: str) -> AsyncIterator[Daemon]:
    async with life(
        place,
        bucket=bucket.settings(),
        MOLTINIT_OPENCLAW_BIN=str(openclaw),
        MOLTINIT_AGENT_HOME=str(place.parent / "home"),
        **variables,
    ) as daemon:
        await daemon.ready()
        yield daemon


async def talk(daemon: Daemon, text: str, session: str = SESSION) -> str:
    """One turn; the agent's answer, or its error, as a client gets it."""
    async with asyncio.timeout(TURN_SECONDS), Rpc(f"ws://127.0.0.1:{daemon.port}/", None) as connection:
        parameters = {"sessionKey": session, "message": text, "idempotencyKey": str(uuid.uuid4())}
        run = await connection.call("chat.send", parameters)
        while True:
            event = await connection.event("chat")
            if event.get("runId") == run["runId"] and event.get("state") in ("final", "error", "aborted"):
                return json.dumps(event.get("message") or event, ensure_ascii=False)


async def environments(daemon: Daemon) -> dict[int, bytes]:
    """Environment and arguments of the agent and of every process below it."""
    agent = (await daemon.status())["agent"]["pid"]
    found = {}
    for pid in [agent, *descendants(agent)]:
        try:
            found[pid] = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
    assert found[agent]
    return found


def holders(root: Path, secret: str) -> list[Path]:
    """The files below `root` that hold the secret."""
    needle = secret.encode()
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if needle in path.read_bytes()]


async def test_the_gateway_talks_calls_tools_and_embeds_with_nothing_but_a_placeholder(
    bucket: Bucket, openclaw: Path, model: ModelServer, tmp_path: Path
) -> None:
    async with gateway(
        tmp_path / "a",
        bucket,
        openclaw,
        ANTHROPIC_API_KEY=ANTHROPIC_KEY,
        ANTHROPIC_BASE_URL=model.url + "/anthropic",
        OPENAI_API_KEY=OPENAI_KEY,
        OPENAI_BASE_URL=model.url + "/openai/v1",
        TELEGRAM_BOT_TOKEN=TELEGRAM_TOKEN,
        TELEGRAM_DM_POLICY="disabled",
    ) as daemon:
        model.script = [("exec", {"command": "echo RESULT-$((6*7))"})]
        assert "MARK-one" in await talk(daemon, "remember MARK-one")
        assert "RESULT-42" in json.dumps(model.requests), "a tool's result came back through the broker"

        (daemon.agent_home / ".openclaw" / "workspace" / "MEMORY.md").write_text("the cellar key hangs by the door\n")
        model.script = [("memory_search", {"query": "where is the key"})]
        await talk(daemon, "look into your memory")
        assert any(path == "/openai/v1/embeddings" for path, _ in model.arrived)

        async with Rpc(f"ws://127.0.0.1:{daemon.port}/", None) as connection:
            await connection.call("sessions.patch", {"key": SESSION, "model": "openai/gpt-6-astra"})
        model.script = [("exec", {"command": "env"})]
        assert "MARK-two" in await talk(daemon, "and MARK-two")
        paths = {path for path, _ in model.arrived}
        assert "/anthropic/v1/messages" in paths
        assert "/openai/v1/responses" in paths
        assert {key for path, key in model.arrived if path.startswith("/anthropic")} == {ANTHROPIC_KEY}
        assert {key for path, key in model.arrived if path.startswith("/openai")} == {f"Bearer {OPENAI_KEY}"}

        status = await daemon.status()
        measures = {row["measure"]: row["state"] for row in status["isolation"]}
        assert measures["model-keys-brokered"] == "on"
        used = {(row["provider"], row["model"]): row for row in status["broker"]["usage"]}
        assert used["anthropic", "fake"]["input"] >= 10
        assert used["openai", "fake"]["output"] >= 5
        assert not any(row["estimated"] for row in used.values()), "every answer said what it cost"

        seen = await environments(daemon)
        for secret in (ANTHROPIC_KEY, OPENAI_KEY, bucket.settings()["AWS_SECRET_ACCESS_KEY"]):
            assert not [pid for pid, text in seen.items() if secret.encode() in text]
            assert secret not in json.dumps(model.requests), "nor could its shell print it"
        assert any(TELEGRAM_TOKEN.encode() in text for text in seen.values()), "as the docs say"
        await daemon.saved()
        token = next(
            part.partition(b"=")[2].decode()
            for text in seen.values()
            for part in text.split(b"\0")
            if part.startswith(b"MOLTINIT_BROKER_TOKEN=")
        )
        assert await daemon.stop() == 0, daemon.tail()
        for secret in (ANTHROPIC_KEY, OPENAI_KEY, TELEGRAM_TOKEN, token):
            assert holders(daemon.agent_home, secret) == []
            assert holders(daemon.place, secret) == [], "nor in the log"
    restored = tmp_path / "restored"
    for key in bucket.keys():  # noqa: SIM118
        content = bucket.get(key)
        for secret in (ANTHROPIC_KEY, OPENAI_KEY, TELEGRAM_TOKEN, token):
            assert secret.encode() not in content
    await _restore(bucket, restored)
    for secret in (ANTHROPIC_KEY, OPENAI_KEY, TELEGRAM_TOKEN, token):
        assert holders(restored, secret) == [], "nor within what is compressed there"


async def _restore(bucket: Bucket, target: Path) -> None:
    import sys

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "supervisor",
        "restore",
        "--to",
        str(target),
        env={"PATH": os.environ["PATH"], "MOLTINIT_HOME": str(target.parent / "other"), **bucket.settings()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert any(target.rglob("openclaw.json")), output.decode()


async def test_a_budget_stops_a_runaway_loop_and_the_user_is_told(
    bucket: Bucket, openclaw: Path, model: ModelServer, tmp_path: Path
) -> None:
    variables: dict[str, Any] = {
        "ANTHROPIC_API_KEY": ANTHROPIC_KEY,
        "ANTHROPIC_BASE_URL": model.url,
        "MOLTINIT_BUDGET_REQUESTS_PER_DAY": "8",
    }
    async with gateway(tmp_path / "a", bucket, openclaw, **variables) as daemon:
        model.runaway = ("exec", {"command": "date +%N"})
        answer = await talk(daemon, "go on for ever")
        assert "daily usage limit that is set for this agent is reached (8 of 8 requests)" in answer
        assert "MOLTINIT_BUDGET_REQUESTS_PER_DAY" in answer
        assert len(model.arrived) == 8
        status = await daemon.status()
        assert "budget-spent" in [problem["code"] for problem in status["problems"]]
        assert status["broker"]["refused"] <= 4, "it gives up instead of hammering"
        assert await daemon.stop() == 0, daemon.tail()
    async with gateway(tmp_path / "b", bucket, openclaw, **variables) as daemon:
        model.runaway = None
        assert "daily usage limit" in await talk(daemon, "hello?", "agent:main:other")
        assert len(model.arrived) == 8, "what was used is known to the next life"


async def test_the_browser_tool_sees_a_page_through_the_broker(
    bucket: Bucket, openclaw: Path, model: ModelServer, tmp_path: Path
) -> None:
    config = tmp_path / "home" / ".openclaw" / "openclaw.json"
    config.parent.mkdir(parents=True)
    # A page on loopback is what there is to look at here; OpenClaw opens public ones only, unless it is told otherwise.
    reachable = {"ssrfPolicy": {"dangerouslyAllowPrivateNetwork": True}}
    config.write_text(json.dumps({"browser": reachable, "tools": {"toolSearch": False}}))
    async with (
        devtools(tmp_path / "profile") as browser,
        site("<title>Far page</title><h1>SEEN-from-afar</h1>") as page,
        gateway(
            tmp_path / "a",
            bucket,
            openclaw,
            ANTHROPIC_API_KEY=ANTHROPIC_KEY,
            ANTHROPIC_BASE_URL=model.url,
            MOLTINIT_BROWSER_URL=browser,
            MOLTINIT_BROWSER_TOKEN=BROWSER_TOKEN,
        ) as daemon,
    ):
        picture = daemon.agent_home / "page.png"
        skill = PROJECT / "image/skills/cloudflare-browser/scripts/screenshot.mjs"
        model.script = [
            ("browser", {"action": "open", "url": page}),
            ("browser", {"action": "snapshot"}),
            ("browser", {"action": "screenshot"}),
            ("exec", {"command": f"node {skill} {page} {picture}"}),
        ]
        assert "HEARD" in await talk(daemon, "look at the page")
        said = json.dumps(next(r["messages"] for r in reversed(model.requests) if r.get("tools")))
        assert "SEEN-from-afar" in said, said[-3000:]
        media = [path for path in (daemon.agent_home / ".openclaw" / "media").rglob("*") if path.is_file()]
        assert any(path.read_bytes()[:4] in (b"\x89PNG", b"\xff\xd8\xff\xe0") for path in media), said[-3000:]
        await _made(picture, said)
        assert picture.read_bytes().startswith(b"\x89PNG")
        status = await daemon.status()
        assert status["broker"]["browser"]["connections"] >= 1
        assert {row["measure"]: row["state"] for row in status["isolation"]}["browser-brokered"] == "on"
        written = config.read_text()
        assert "${MOLTINIT_BROKER_TOKEN}" in written
        seen = await environments(daemon)
        assert not [pid for pid, text in seen.items() if BROWSER_TOKEN.encode() in text]
        assert await daemon.stop() == 0, daemon.tail()
        assert holders(daemon.agent_home, BROWSER_TOKEN) == []


async def _made(path: Path, said: str) -> None:
    """A command that takes long goes on behind the turn."""
    for _ in range(300):
        if path.exists() and path.stat().st_size:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(said[-3000:])


@asynccontextmanager
async def site(text: str) -> AsyncIterator[str]:
    """A web site of one page."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield "http://127.0.0.1:{1}/".format(*runner.addresses[0])
    finally:
        await runner.cleanup()
