"""The login page in a real browser, before a small agent."""

from __future__ import annotations

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, Route, expect

from tests.support.browser import DESKTOP, PHONE, overflows, watched_page
from tests.unit.http.support import TOKEN, agent_server, front_door, token_keeper


async def agent_page(request: web.Request) -> web.Response:
    return web.Response(text="<!doctype html><title>agent</title><h1>The agent</h1>", content_type="text/html")


def small_agent() -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", agent_page)
    return app


async def is_at_the_agent(page: Page) -> None:
    await expect(page.get_by_role("heading", name="The agent")).to_be_visible(timeout=30_000)


@pytest.mark.parametrize("window", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_it_is_usable_by_keyboard_alone_and_at_the_width_of_a_phone(
    browser: Browser, window: dict[str, int]
) -> None:
    async with agent_server(small_agent()) as address, front_door(address, keeper=token_keeper()) as door:
        context = await browser.new_context(viewport=window, color_scheme="dark")
        watched = await watched_page(context)
        page = watched.page
        await page.goto(f"{door.url}/chat")
        field = page.get_by_label("Operator token")
        await expect(field).to_be_focused()
        assert not await overflows(page)
        await page.keyboard.type("wrong")
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Sign in")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_have_text("That is not the operator token.")
        await expect(field).to_be_focused()
        assert await field.get_attribute("aria-invalid") == "true"
        assert not await overflows(page)
        await page.keyboard.type(TOKEN)
        await page.keyboard.press("Enter")
        await is_at_the_agent(page)
        assert page.url == f"{door.url}/chat"
        # The 401 of the wrong token is all that the console has: nothing was refused by the policy.
        assert [error for error in watched.errors if "401" not in error and "favicon" not in error] == []
        await context.close()


async def test_a_link_on_another_site_finds_who_is_signed_in_signed_in(browser: Browser) -> None:
    async with agent_server(small_agent()) as address, front_door(address, keeper=token_keeper()) as door:
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(f"{door.url}/_admin/login")
        await page.get_by_label("Operator token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await is_at_the_agent(page)

        async def elsewhere(route: Route) -> None:
            await route.fulfill(content_type="text/html", body=f"<a href='{door.url}/notes?day=1'>notes</a>")

        await page.route("http://elsewhere.example/", elsewhere)
        await page.goto("http://elsewhere.example/")
        await page.get_by_role("link", name="notes").click()
        await is_at_the_agent(page)
        assert page.url == f"{door.url}/notes?day=1"
        await context.clear_cookies()
        await page.goto("http://elsewhere.example/")
        await page.get_by_role("link", name="notes").click()
        await expect(page.get_by_label("Operator token")).to_be_visible(timeout=30_000)
        assert page.url.endswith("/_admin/login?next=/notes%3Fday%3D1")
        await context.close()
