"""axe-core, run in a real browser: contrast, names, roles, order, landmarks (WCAG 2.2 A and AA, and best practice)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from playwright.async_api import Page

PROGRAM = Path(__file__).parents[2] / ".cache/axe/node_modules/axe-core/axe.min.js"

_RUN = """async () => {
  const result = await axe.run(document);
  return result.violations.map((v) => `${v.id} (${v.impact}): ${v.help}: ` + v.nodes.map((n) => n.html).join(" | "));
}"""


@cache
def _source() -> str:
    if not PROGRAM.exists():
        pytest.fail("axe-core is not installed: `make axe` does it")
    return PROGRAM.read_text("utf-8")


async def violations(page: Page) -> list[str]:
    """What axe-core has against the page as it is now; evaluated from outside, so that the page's policy holds."""
    await page.evaluate(_source() + ";undefined")
    found: list[str] = await page.evaluate(_RUN)
    return found
