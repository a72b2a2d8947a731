"""A real Chromium, driven by playwright, for tests of what people see.

It is the distribution's own `chromium` (`make browser` installs it); playwright's bundled ones are not fetched.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--no-sandbox",  # a test runs as root, in a container, and visits nothing but its own servers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium_program() -> Path:
    """The browser's program: MOLTINIT_TEST_CHROMIUM, else the one on PATH."""
    named = os.environ.get("MOLTINIT_TEST_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.fail("there is no Chromium: `make browser` installs it, or set MOLTINIT_TEST_CHROMIUM")
    return Path(found)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A running browser with a profile of its own; every page and context goes with it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_program(), args=_FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


class Watched:
    """A page, and everything that went wrong on it: uncaught errors, console errors, refusals by the CSP."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._heard)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)


async def watched_page(context: BrowserContext) -> Watched:
    """A new page whose errors are kept."""
    return Watched(await context.new_page())


async def overflows(page: Page) -> bool:
    """Whether the page is wider than its window, so that a phone would scroll it sideways."""
    return bool(await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


@asynccontextmanager
async def devtools(profile: Path) -> AsyncIterator[str]:
    """A running browser that speaks CDP on a loopback port; yields its address."""
    # An own process group: its helpers go with it.
    process = await asyncio.create_subprocess_exec(
        str(chromium_program()),
        *_FLAGS,
        "--headless=new",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        port_file = profile / "DevToolsActivePort"
        async with asyncio.timeout(60):
            while not port_file.exists() or not port_file.read_text().strip():
                assert process.returncode is None, "the browser has ended"
                await asyncio.sleep(0.1)
        yield f"http://127.0.0.1:{port_file.read_text().split()[0]}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
