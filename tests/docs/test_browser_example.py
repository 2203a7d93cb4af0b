"""examples/live_feed.html in a real browser, opened from disk as its reader opens it."""

import pytest

from tests.conftest import API_KEY_WS, Server
from tests.docs.example_process import FOLDER
from tests.web.browser import Tab
from tests.web.conftest import devtools, tab
from tests.wire import wire_to

__all__ = ["devtools", "tab"]
pytestmark = pytest.mark.xdist_group("browser")


async def test_page_shows_new_readings_and_goes_on_when_the_connection_breaks(server: Server, tab: Tab) -> None:
    await server.post_readings([{"sensor": "cellar", "values": {"level": 1.5}}])
    async with wire_to(server.address) as wire:
        await open_page(tab, wire.url, API_KEY_WS)
        await tab.wait_for(cells("cellar|level|1.5"))
        await server.post_readings([{"sensor": "<b>roof", "values": {"level": 2.5}}])
        await tab.wait_for(cells("<b>roof|level|2.5"))
        await wire.cut()
        await tab.wait_for("document.getElementById('state').textContent.startsWith('Not connected (1006)')")
        await server.post_readings([{"sensor": "cellar", "values": {"level": 3.5}}])
        await wire.mend()
        await tab.wait_for(cells("cellar|level|3.5"))
        assert await tab.text("#state") == "Connected"
    tab.errors.clear()  # of the connection that was cut


async def test_page_says_why_and_stays_away_when_the_key_is_refused(server: Server, tab: Tab) -> None:
    await open_page(tab, server.address, "wrong")
    await tab.wait_for("document.getElementById('state').textContent.startsWith('Refused')")
    assert await tab.text("#state") == "Refused: This API key is unknown or was revoked (4401)"


async def open_page(tab: Tab, url: str, key: str) -> None:
    """Open the page, fill in address and key, and follow."""
    await tab.go((FOLDER / "live_feed.html").as_uri())
    await tab.evaluate(f"document.getElementById('url').value = {url!r}")
    await tab.click("#key")
    await tab.type(key)
    await tab.press("Enter")


def cells(start: str) -> str:
    """Write an expression that is true once a row of the table begins with these cells."""
    rows = "[...document.querySelectorAll('#rows tr')].map((row) => [...row.cells].map((cell) => cell.innerText))"
    return f"{rows}.some((texts) => texts.join('|').startsWith({start!r}))"
