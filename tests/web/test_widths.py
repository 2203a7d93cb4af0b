"""Every view on screens of usual widths: nothing is wider than the screen, and nothing scrolls sideways."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from app.settings import Settings
from tests.conftest import Database, Server, running_server
from tests.receivers import WebhookReceiver
from tests.web.readings import BROKEN_RULES, post, write_rules
from tests.web.visit import KEY, open_page

pytestmark = pytest.mark.xdist_group("browser")
WIDTHS = (320, 1366, pytest.param(390, marks=pytest.mark.slow), pytest.param(768, marks=pytest.mark.slow))
LONG = "cold-storage-hall-7-compressor-inlet-temperature-probe-north-east"
LONG_ERROR = "HTTPConnectionPool(host=alerts.example.com, port=443): Name or service not known"
ROUTES = {
    "overview": ("#/", ".alert-row"),
    "sensor": (f"#/sensor/{LONG}?metric=temperature", ".chart canvas"),
    "open alert": ("#/alert/1", ".alert-buttons"),
    "history": ("#/history", ".history-row"),
    "silences": ("#/silences", ".silence-row"),
    "rules": ("#/rules", ".rule-row"),
    "deliveries": ("#/deliveries", ".message-row"),
    "log": ("#/log", ".log-row"),
    "nowhere": ("#/nowhere", "#view .card"),
}
MESSAGE = f"""
INSERT INTO notification (channel, group_key, state, due_at, finished_at, error)
VALUES ('duty', '["{LONG}", []]', 'dead', now(), now(), '{LONG_ERROR}')
"""
#: Names what is wider than the screen or scrolls sideways.
FIND_WIDE = """() => {
  const name = (each) => `${each.tagName} ${each.id} ${each.className} ${each.scrollWidth} > ${each.clientWidth}`;
  const scrolls = (each) => ["auto", "scroll"].includes(getComputedStyle(each).overflowX);
  const isWide = (each) => each.scrollWidth > each.clientWidth && each.clientWidth > 0;
  const page = document.documentElement;
  const wide = isWide(page) ? [`page: ${page.scrollWidth} > ${page.clientWidth}`] : [];
  const beyond = [...document.querySelectorAll("body *")].filter(
    (each) => wide.length > 0 && each.getBoundingClientRect().right > page.clientWidth + 0.5,
  );
  const scrolling = [...document.querySelectorAll("body *")].filter((each) => scrolls(each) && isWide(each));
  return [...wide, ...beyond.slice(0, 5).map(name), ...scrolling.map(name)];
}"""


@pytest.fixture
async def server(database: Database, webhook: WebhookReceiver, tmp_path: Path) -> AsyncIterator[Server]:
    """A server with alerts, a silence, a message and rule problems, all with long names."""
    channels = f"version: 1\nchannels:\n  duty:\n    type: webhook\n    url: {webhook.url}\n"
    (tmp_path / "channels.yml").write_text(channels)
    settings = Settings(database_url=database.dsn, api_key=KEY, api_key_ws=KEY, rules_dir=write_rules(tmp_path))
    async with running_server(settings) as running:
        running.http.headers["X-API-Key"] = KEY
        await post(running, LONG, gateway=f"gateway-{LONG}", tags={"site": LONG}, temperature=35.123, humidity=1)
        await post(running, "oven", minutes_ago=1, temperature=25)
        await post(running, "oven", temperature=15)
        await running.tick()
        await database.pool.execute(MESSAGE)
        end = (datetime.now(UTC) + timedelta(days=200)).isoformat()
        silence = {"matchers": {"rule": LONG, "sensor": LONG}, "to": end, "author": "Ana Maria", "comment": LONG * 2}
        async with running.http.post("/api/v1/silences", json=silence) as response:
            assert response.status == 201
        (tmp_path / "broken.yml").write_text(BROKEN_RULES)
        running.worker.alerting.keeper.reload_soon()
        yield running


@pytest.mark.parametrize("width", WIDTHS)
async def test_no_view_is_wider_than_the_screen(server: Server, page: Page, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 700})
    await page.goto(server.address)
    await expect(page.locator("#gate")).to_be_visible()
    wide = {"gate": await page.evaluate(FIND_WIDE)}
    await open_page(page, server)
    for view, (route, part) in ROUTES.items():
        await page.goto(f"{server.address}/{route}")
        if view == "log":
            await post(server, LONG, temperature=36)
        if view == "overview":
            await expect(page.locator(".gateway")).to_have_count(2)
        await expect(page.locator(part).first).to_be_visible()
        wide[view] = await page.evaluate(FIND_WIDE)
    assert {view: found for view, found in wide.items() if found} == {}


@pytest.mark.parametrize("width", WIDTHS)
async def test_no_dialog_or_opened_part_is_wider_than_the_screen(server: Server, page: Page, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 700})
    await open_page(page, server)
    row = page.locator(".alert-row")
    wide = {}
    for name in ("Ack", "Silence"):
        await row.get_by_role("button", name=name, exact=True).click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        wide[name] = await page.evaluate(FIND_WIDE)
        await page.keyboard.press("Escape")
    await page.locator("#resolved-count").click()
    await expect(page.locator(".resolved-row")).to_be_visible()
    wide["resolved"] = await page.evaluate(FIND_WIDE)
    await page.goto(f"{server.address}/{ROUTES['sensor'][0]}")
    await page.get_by_text("Table", exact=True).click()
    await expect(page.locator(".buckets tbody tr").first).to_be_visible()
    wide["table of the trend"] = await page.evaluate(FIND_WIDE)
    for name in ("Edit", "Retire", "Delete"):
        await page.get_by_role("button", name=name, exact=True).click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        wide[name] = await page.evaluate(FIND_WIDE)
        await page.keyboard.press("Escape")
    assert {view: found for view, found in wide.items() if found} == {}


@pytest.mark.parametrize("width", WIDTHS)
async def test_page_without_sensors_is_not_wider_than_the_screen(
    database: Database, tmp_path: Path, page: Page, width: int
) -> None:
    settings = Settings(database_url=database.dsn, api_key=KEY, api_key_ws=KEY, rules_dir=tmp_path)
    async with running_server(settings) as server:
        await page.set_viewport_size({"width": width, "height": 700})
        await open_page(page, server)
        await expect(page.locator("#empty-command")).to_be_visible()
        assert await page.evaluate(FIND_WIDE) == []
