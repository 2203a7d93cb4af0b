"""A server whose one key may do everything, and a page that is signed in to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Page, expect

from app.settings import Settings
from tests.conftest import Database, Server, running_server

KEY = "test-page-key"


@asynccontextmanager
async def running_with_rules(database: Database, rules_dir: Path) -> AsyncIterator[Server]:
    """Run the API and a worker with the rules of a folder until the block ends."""
    settings = Settings(database_url=database.dsn, api_key=KEY, api_key_ws=KEY, rules_dir=rules_dir)
    async with running_server(settings) as running:
        running.http.headers["X-API-Key"] = KEY
        yield running


async def open_page(page: Page, server: Server, route: str = "", key: str = KEY) -> None:
    """Sign in, wait until the page is live, then follow a route such as `#/rules`."""
    await page.goto(f"{server.address}/#key={key}")
    await expect(page.locator("#connection")).to_contain_text("live, ")
    if route:
        await page.goto(f"{server.address}/{route}")
