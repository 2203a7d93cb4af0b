"""The page when the server is lost, only seems to be there, and comes back; and behind a proxy's path prefix."""

import re
from datetime import datetime

import pytest
from playwright.async_api import Page, expect

from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_server
from tests.web.conftest import drop_network_errors
from tests.web.readings import post
from tests.wire import wire_to

pytestmark = pytest.mark.xdist_group("browser")
#: Two heartbeats and a little.
HALF_OPEN_MS = 25_000


async def test_page_comes_back_with_what_it_missed_when_server_was_gone(
    server: Server, complaints: list[str], page: Page
) -> None:
    await post(server, "quay", minutes_ago=1, level=1)
    async with wire_to(server.address) as wire:
        opened_at = datetime.now().astimezone()
        await page.goto(f"{wire.url}/#key={API_KEY_WS}")
        connection = page.locator("#connection-text")
        await expect(connection).to_have_text(re.compile(r"live, (now|\d+ s ago)"))
        await expect(page.locator("#table-body .figure")).to_have_text(["1"])
        lost_at = datetime.now().astimezone()
        await wire.cut()
        minutes = f"({opened_at:%H:%M}|{lost_at:%H:%M})"
        await expect(connection).to_have_text(re.compile(f"^reconnecting, data from {minutes}$"))
        await post(server, "quay", level=2)
        await wire.mend()
        await expect(connection).to_contain_text("live, ", timeout=20_000)
        await expect(page.locator("#table-body .figure")).to_have_text(["2"])
    drop_network_errors(complaints)


async def test_page_notices_within_25_s_when_connection_is_half_open(
    server: Server, complaints: list[str], page: Page
) -> None:
    async with wire_to(server.address) as wire:
        await page.goto(f"{wire.url}/#key={API_KEY_WS}")
        connection = page.locator("#connection-text")
        await expect(connection).to_contain_text("live, ")
        wire.freeze()
        await expect(connection).to_contain_text("reconnecting, data from ", timeout=HALF_OPEN_MS)
        await wire.cut()
        await wire.mend()
        await page.get_by_role("button", name="Retry now").click()
        await expect(connection).to_contain_text("live, ", timeout=20_000)
    drop_network_errors(complaints)


async def test_page_waits_when_key_has_too_many_connections(
    database: Database, complaints: list[str], page: Page
) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, max_ws_connections_per_key=1)
    headers = {"X-API-Key": API_KEY_WS}
    async with running_server(settings) as server, server.http.ws_connect("/ws/live", headers=headers) as other:
        await page.goto(f"{server.address}/#key={API_KEY_WS}")
        await expect(page.locator("#connection-text")).to_have_text("reconnecting, no data yet")
        await expect(page.locator("#connection")).to_have_attribute("title", re.compile("Max connections"))
        await other.close()
        await page.get_by_role("button", name="Retry now").click()
        await expect(page.locator("#connection")).to_contain_text("live, ")
    drop_network_errors(complaints)


async def test_page_works_under_a_path_prefix(database: Database, page: Page) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, root_path="/made/up")
    async with running_server(settings) as server:
        await post(server, "quay", gateway="gw-quay", level=1)
        await page.goto(f"{server.address}/made/up#key={API_KEY_WS}")
        await expect(page.locator("#connection")).to_contain_text("live, ")
        await expect(page.locator("#table-body .sensor-name")).to_have_text(["quay"])
        await expect(page.get_by_role("region", name="Gateways")).to_contain_text("gw-quay")
        assert page.url == f"{server.address}/made/up/"


async def test_page_leaves_a_server_before_it_ends(database: Database, complaints: list[str], page: Page) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
    async with running_server(settings) as server, wire_to(server.address) as wire:
        await page.goto(f"{wire.url}/#key={API_KEY_WS}")
        await expect(page.locator("#connection")).to_contain_text("live, ")
    assert page.url == "about:blank"
    assert complaints == []
