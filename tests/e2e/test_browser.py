"""A person in a real browser, before the real gateway: signs in, chats with no token typed, comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, BrowserContext, Page, Response, expect

from agent_runtime.openclaw.rpc import Rpc
from tests.support.access import AUDIENCE, EMAIL, FakeAccess, fake_access
from tests.support.browser import DESKTOP, overflows, watched_page
from tests.support.daemon import Daemon, life
from tests.support.gateway_device import DeviceRpc
from tests.support.model_server import model_server
from tests.support.s3 import Bucket

pytestmark = [pytest.mark.gateway, pytest.mark.timeout(1500)]

TURN_MS = 240_000
TOKEN = "an-operator-token-0123456789"
GATEWAY_TOKEN = "a-gateway-token-0123456789"


async def say(page: Page, text: str, *, answer: str) -> None:
    """One turn in OpenClaw's own page; waits for the answer to be seen."""
    await page.get_by_label("Chat composer").fill(text)
    await page.get_by_label("Chat composer").press("Enter")
    await expect(page.get_by_text(answer, exact=False).first).to_be_visible(timeout=TURN_MS)


async def is_in(page: Page) -> None:
    """OpenClaw's page is there and connected."""
    await expect(page.get_by_label("Chat composer")).to_be_visible(timeout=TURN_MS)
    await expect(page.get_by_text("Connected", exact=True).first).to_be_attached(timeout=TURN_MS)


async def post(page: Page, path: str) -> int:
    """The status of a POST that the page itself makes."""
    return int(await page.evaluate("path => fetch(path, {method: 'POST'}).then(answer => answer.status)", path))


async def opened(page: Page, url: str) -> Response:
    response = await page.goto(url)
    assert response is not None
    return response


async def test_a_person_chats_behind_access_and_in_the_next_vm_behind_a_token(
    bucket: Bucket, openclaw: Path, browser: Browser, tmp_path: Path
) -> None:
    async with model_server() as model, fake_access() as team:
        common = {
            "MOLTINIT_OPENCLAW_BIN": str(openclaw),
            "MOLTINIT_AGENT_HOME": str(tmp_path / "home"),
            "ANTHROPIC_API_KEY": "sk-ant-stand-in-0123456789",
            "ANTHROPIC_BASE_URL": model.url,
            "OPENCLAW_GATEWAY_TOKEN": GATEWAY_TOKEN,
        }
        access = {"CF_ACCESS_TEAM_DOMAIN": team.url, "CF_ACCESS_AUD": AUDIENCE}
        async with life(tmp_path / "a", bucket=bucket.settings(), **common, **access) as daemon:
            await daemon.ready()
            context = await browser.new_context(viewport=DESKTOP)
            await _behind_access(context, daemon, team.url)
            await context.close()
            await _pairs_a_laptop(daemon, team)
            assert await daemon.stop() == 0, daemon.tail()
            _nothing_leaked(daemon, team.token())
        async with life(tmp_path / "b", bucket=bucket.settings(), **common, MOLTINIT_OPERATOR_TOKEN=TOKEN) as daemon:
            await daemon.ready()
            context = await browser.new_context(viewport=DESKTOP)
            await _behind_a_token(context, daemon)
            await context.close()
            assert await daemon.stop() == 0, daemon.tail()
            assert TOKEN not in daemon.log.read_text()


async def _behind_access(context: BrowserContext, daemon: Daemon, team: str) -> None:
    watched = await watched_page(context)
    page = watched.page
    assert (await opened(page, daemon.url)).status == 401
    watched.errors.clear()
    await page.goto(f"{team}/cdn-cgi/access/login?redirect_url={daemon.url}/")
    await is_in(page)
    await expect(page.get_by_text(EMAIL.partition("@")[0], exact=True).first).to_be_attached()
    await say(page, "remember MARK-one", answer="marks=MARK-one")
    await page.reload()
    await is_in(page)
    await expect(page.get_by_text("marks=MARK-one", exact=False).first).to_be_visible(timeout=TURN_MS)
    # The gateway knows who it is, and that he is an operator.
    operator = await context.new_page()
    await opened(operator, f"{daemon.url}/_admin/")
    restarted = asyncio.ensure_future(post(operator, "/api/admin/gateway/restart"))  # answers when it is back
    await daemon.until("the agent is down", "/readyz", lambda code, _: code == 503)
    assert (await opened(page, f"{daemon.url}/chat/main")).status == 503
    await expect(page.get_by_role("heading", name="One moment")).to_be_visible()
    await daemon.ready()
    assert await restarted in (200, 202)
    await is_in(page)
    await say(page, "and MARK-two", answer="marks=MARK-one,MARK-two")


async def _pairs_a_laptop(daemon: Daemon, team: FakeAccess) -> None:
    """What is no page of the front door's own gateway waits until an operator approves it, whoever stands behind it."""
    for wrong in ({}, {"Authorization": f"Bearer {GATEWAY_TOKEN}"}, {"Cf-Access-Jwt-Assertion": team.token(aud=["x"])}):
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await DeviceRpc(f"ws://127.0.0.1:{daemon.port}/", headers=wrong).knock()
    passed = {"Cf-Access-Jwt-Assertion": team.service_token()}
    laptop = DeviceRpc(f"ws://127.0.0.1:{daemon.port}/", headers=passed)
    camera = DeviceRpc(
        f"ws://127.0.0.1:{daemon.port}/", headers=passed, role="node", client=("node-host", "node"), scopes=()
    )
    for device in (laptop, camera):
        assert await device.knock() == "NOT_PAIRED"
    gateway = f"ws://127.0.0.1:{daemon.variables['MOLTINIT_AGENT_PORT']}/"
    async with Rpc(gateway, GATEWAY_TOKEN) as direct:
        pending = (await direct.call("device.pair.list"))["pending"]
        assert {row["deviceId"] for row in pending} == {laptop.device_id, camera.device_id}
        for row in pending:
            await direct.call("device.pair.approve", {"requestId": row["requestId"]})
    async with laptop:
        assert await laptop.call("health")


async def _behind_a_token(context: BrowserContext, daemon: Daemon) -> None:
    watched = await watched_page(context)
    page = watched.page
    # An old bookmark, with a token in its address.
    await page.goto(f"{daemon.url}/chat/main?token=from-an-old-bookmark")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert "old-bookmark" not in page.url
    watched.errors.clear()
    await page.get_by_label("Operator token").fill("not-the-token")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("not the operator token")
    await expect(page.get_by_label("Operator token")).to_be_focused()
    assert not await overflows(page)
    await page.get_by_label("Operator token").fill(TOKEN)
    await page.keyboard.press("Enter")
    await is_in(page)
    assert page.url.startswith(f"{daemon.url}/chat/main")
    await say(page, "and MARK-three", answer="marks=MARK-one,MARK-two,MARK-three")
    cookies = {cookie["name"]: cookie for cookie in await context.cookies()}
    assert cookies["moltinit_session"]["httpOnly"]
    assert cookies["moltinit_session"]["sameSite"] == "Strict"
    await page.reload()
    await is_in(page)
    await page.goto(f"{daemon.url}/_admin/login")
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert (await opened(page, f"{daemon.url}/status")).url.endswith("/_admin/login?next=/status")


def _nothing_leaked(daemon: Daemon, token: str) -> None:
    """No token of a person, whole or in part, in the log."""
    assert token.partition(".")[0] + "." not in daemon.log.read_text()
