"""The admin page in a real browser, in front of the real gateway: an older conversation comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.e2e.test_admin_page import visit
from tests.e2e.test_openclaw import gateway, history, talk
from tests.support.model_server import ModelServer, model_server
from tests.support.s3 import Bucket

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [pytest.mark.gateway, pytest.mark.timeout(400)]


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    async with model_server() as server:
        yield server


async def test_the_older_conversation_comes_back_from_the_page(
    bucket: Bucket, openclaw: Path, model: ModelServer, browser: Browser, tmp_path: Path
) -> None:
    async with gateway(tmp_path / "a", bucket, openclaw, model) as daemon:
        await daemon.ready()
        await talk(daemon, "remember MARK-one")
        async with visit(browser, daemon, phone=True) as seen:
            page = seen.page
            await expect(page.locator("#agent")).to_contain_text("openclaw")
            await page.get_by_role("button", name="Save now").click()
            await expect(page.get_by_text("Everything is saved: snapshot")).to_be_visible(timeout=60_000)
            wanted = (await daemon.status())["snapshots"]["last"]["sequence"]

            await talk(daemon, "forget MARK-two")
            assert "MARK-two" in await history(daemon)

            await page.get_by_role("link", name="All").click()
            await page.get_by_role("link", name=f"Restore… snapshot {wanted}", exact=True).click()
            await page.get_by_role("button", name=f"Restore snapshot {wanted}", exact=True).click()
            await expect(page.get_by_text(f"Restored: snapshot {wanted}")).to_be_visible(timeout=120_000)
            await daemon.ready()
            said = await history(daemon)
            assert "MARK-one" in said
            assert "MARK-two" not in said

            # The gateway was asked for its devices, and answered.
            await page.reload()
            await expect(page.locator("#devices")).to_contain_text("No device waits, and none is known.")
