"""A browser for the tests of the page: Debian's Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

from tests.visitors import visitor

# A machine with other things to do.
expect.set_options(timeout=15_000)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of an installed Chromium; in CI its absence is a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "Chromium is not installed (Debian: apt-get install chromium), so the page was not tried in a browser"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """A browser without a window."""
    async with async_playwright() as playwright:
        # Chromium's sandbox refuses root, and is not what is tested here.
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser
        await browser.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the page complained about: errors and warnings in the console, exceptions, refusals of its policy."""
    return []


@pytest.fixture
async def page(browser: Browser, complaints: list[str]) -> AsyncIterator[Page]:
    """An empty tab with a storage of its own; a complaint that the test does not take out fails it."""
    page = await browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-GB")

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))

    async def leave() -> None:
        if not page.is_closed():
            await page.goto("about:blank")

    with visitor(leave):
        yield page
    assert complaints == []


def drop_network_errors(complaints: list[str]) -> None:
    """Take out what the browser itself reports of connections that fail."""
    complaints[:] = [each for each in complaints if not each.startswith(("WebSocket connection", "Failed to load"))]
