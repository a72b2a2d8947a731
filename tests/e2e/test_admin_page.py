"""The admin page in a real browser, in front of a real daemon with the echo agent."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.async_api import Page, expect

from tests.e2e.test_echo import echo, history, say
from tests.support.accessibility import violations
from tests.support.browser import DESKTOP, PHONE, Watched, overflows, watched_page
from tests.support.daemon import Daemon
from tests.support.s3 import Bucket

if TYPE_CHECKING:
    from playwright.async_api import Browser


@asynccontextmanager
async def visit(
    browser: Browser, daemon: Daemon, *, phone: bool = False, dark: bool = False, script: bool = True
) -> AsyncIterator[Watched]:
    """The overview in a window of its own; whatever went wrong in it fails the test."""
    context = await browser.new_context(
        viewport=PHONE if phone else DESKTOP,  # type: ignore[arg-type]
        color_scheme="dark" if dark else "light",
        java_script_enabled=script,
    )
    try:
        watched = await watched_page(context)
        await watched.page.goto(daemon.url + "/_admin/")
        yield watched
        assert watched.errors == []
    finally:
        await context.close()


async def two_snapshots(daemon: Daemon) -> int:
    """One thing said in each; the number of the first."""
    await daemon.ready()
    await say(daemon, "one")
    await daemon.saved()
    first = int((await daemon.status())["snapshots"]["last"]["sequence"])
    await say(daemon, "two")
    await daemon.committed(after=first)
    await daemon.saved()
    return first


async def tab_to(page: Page, words: str) -> None:
    """Press Tab until what has these words is reached."""
    for _ in range(60):
        await page.keyboard.press("Tab")
        if (await page.evaluate("document.activeElement.textContent.replace(/\\s+/g, ' ').trim()")) == words:
            return
    raise AssertionError(f"{words!r} is not reached by Tab")


async def everyone_can_read(page: Page, address: str) -> None:
    """Nobody has to see, hear, scroll sideways or hold a mouse."""
    await page.goto(address)
    await page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert await violations(page) == [], address
    assert not await overflows(page), address


async def test_an_older_snapshot_is_restored_from_the_page_and_taken_back(
    bucket: Bucket, browser: Browser, tmp_path: Path
) -> None:
    async with echo(tmp_path / "a", bucket) as daemon:
        first = await two_snapshots(daemon)
        async with visit(browser, daemon, phone=True) as seen:
            page = seen.page
            await expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Alive"))
            # No mouse is needed for it.
            await page.keyboard.press("Tab")
            await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
            await page.keyboard.press("Enter")
            await tab_to(page, f"Restore… snapshot {first}")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("heading", name=f"Restore snapshot {first}?")).to_be_visible()
            assert await history(daemon) == ["one", "two"], "asking is not doing"
            await tab_to(page, f"Restore snapshot {first}")
            assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            await page.keyboard.press("Enter")
            await expect(page.get_by_text(f"Restored: snapshot {first}")).to_be_visible(timeout=30_000)
            await daemon.ready()
            assert await history(daemon) == ["one"]
            await page.get_by_role("button", name="Undo the restore").first.click()
            await expect(page.get_by_text("The last restore is taken back")).to_be_visible(timeout=30_000)
            await daemon.ready()
            assert await history(daemon) == ["one", "two"]

            await page.get_by_role("link", name=f"Snapshot {first}", exact=True).click()
            await page.get_by_label("Why").fill("the good old days")
            await page.get_by_role("button", name="Pin").click()
            await expect(page.get_by_text("Pinned: the good old days")).to_be_visible()
            await page.get_by_label("What to remember about it").fill('<b>before</b> "two"')
            await page.get_by_role("button", name="Save the note").click()
            await expect(page.get_by_label("What to remember about it")).to_have_value('<b>before</b> "two"')
            async with page.expect_download() as download:
                await page.get_by_role("link", name="Download all (tar)").click()
            assert (await (await download.value).path()).stat().st_size > 1024
        for phone, dark in ((False, False), (True, True)):
            async with visit(browser, daemon, phone=phone, dark=dark) as seen:
                for path in ("", "snapshots", f"snapshots/{first}", f"restore?snapshot={first}"):
                    await everyone_can_read(seen.page, f"{daemon.url}/_admin/{path}")
        audited = (daemon.place / "moltinit/logs/audit.jsonl").read_text()
        assert '"action": "restore"' in audited
        assert f'"snapshot": "{first}"' in audited


async def test_the_page_keeps_itself_current_and_shows_the_log_as_it_is_written(
    bucket: Bucket, browser: Browser, tmp_path: Path
) -> None:
    async with echo(tmp_path / "a", bucket) as daemon:
        await daemon.ready()
        async with visit(browser, daemon) as seen:
            page = seen.page
            log = page.get_by_role("log")
            await expect(page.get_by_text("Live", exact=True)).to_be_visible()
            await expect(page.get_by_text("there is nobody to approve")).to_be_visible()
            await page.locator("#stop > summary").click()
            await page.get_by_role("button", name="Stop the agent").click()
            await expect(page.get_by_text("The agent is stopped. It stays so")).to_be_visible(timeout=30_000)
            await expect(page.get_by_role("heading", level=1)).to_have_text("The agent is stopped")
            await expect(page.get_by_text("Live", exact=True)).to_be_visible()
            lines = await log.locator("li").count()

            status, _ = await daemon.post("/api/admin/agent/start")
            assert status == 200
            await expect(log.locator("li").nth(lines)).to_be_attached(timeout=15_000)
            await expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Alive"), timeout=15_000)
            await expect(page.locator("#spoken")).to_have_text(re.compile("^Alive"))

            shown = log.locator("li:visible")
            await page.get_by_label("Only lines with").fill("no line says this")
            await expect(shown).to_have_count(0)
            await expect(page.get_by_text("No line holds this text.")).to_be_visible()
            await page.get_by_label("Only lines with").fill("[MOLTINIT]")
            await expect(shown.first).to_be_visible()
            await page.get_by_role("button", name="Pause").click()
            await expect(page.get_by_text("Paused", exact=True)).to_be_visible()
            before = await log.locator("li").count()
            await daemon.post("/api/admin/gateway/restart")
            assert await log.locator("li").count() == before
            await page.get_by_role("button", name="Pause").click()
            await expect(log.locator("li").nth(before)).to_be_attached(timeout=15_000)


async def test_without_a_script_everything_can_be_read_and_done(
    bucket: Bucket, browser: Browser, tmp_path: Path
) -> None:
    async with echo(tmp_path / "a", bucket) as daemon:
        first = await two_snapshots(daemon)
        async with visit(browser, daemon, script=False) as seen:
            page = seen.page
            await page.get_by_label("Only lines with").fill("[moltinit]")
            await page.get_by_role("button", name="Filter").click()
            await expect(page.get_by_role("log").locator("li").first).to_contain_text("[moltinit]")
            await page.get_by_role("link", name=f"Restore… snapshot {first}").click()
            await page.get_by_role("button", name=f"Restore snapshot {first}").click()
            await expect(page.get_by_text(f"Restored: snapshot {first}")).to_be_visible(timeout=30_000)
            await daemon.ready()
            assert await history(daemon) == ["one"]
