"""examples/live_feed.html in a real browser, opened from disk as its reader opens it."""

import pytest
from playwright.async_api import Page, expect

from tests.conftest import API_KEY_WS, Server
from tests.docs.example_process import FOLDER
from tests.web.conftest import browser, chromium, complaints, page
from tests.wire import wire_to

__all__ = ["browser", "chromium", "complaints", "page"]
pytestmark = pytest.mark.xdist_group("browser")


async def test_page_shows_new_readings_and_goes_on_when_the_connection_breaks(
    server: Server, complaints: list[str], page: Page
) -> None:
    await server.post_readings([{"sensor": "cellar", "values": {"level": 1.5}}])
    rows = page.locator("#rows tr")
    async with wire_to(server.address) as wire:
        await _open(page, wire.url, API_KEY_WS)
        await expect(rows.filter(has_text="cellar")).to_contain_text("1.5")
        await server.post_readings([{"sensor": "<b>roof", "values": {"level": 2.5}}])
        await expect(rows.filter(has_text="<b>roof")).to_contain_text("2.5")
        await wire.cut()
        await expect(page.locator("#state")).to_contain_text("Not connected (1006)")
        await server.post_readings([{"sensor": "cellar", "values": {"level": 3.5}}])
        await wire.mend()
        await expect(rows.filter(has_text="cellar")).to_contain_text("3.5")
        await expect(page.locator("#state")).to_have_text("Connected")
    complaints.clear()  # of the connection that was cut


async def test_page_says_why_and_stays_away_when_the_key_is_refused(server: Server, page: Page) -> None:
    await _open(page, server.address, "wrong")
    await expect(page.locator("#state")).to_have_text("Refused: This API key is unknown or was revoked (4401)")


async def _open(page: Page, url: str, key: str) -> None:
    """Open the page, fill in address and key, and follow."""
    await page.goto((FOLDER / "live_feed.html").as_uri())
    await page.locator("#url").fill(url)
    await page.locator("#key").fill(key)
    await page.keyboard.press("Enter")
