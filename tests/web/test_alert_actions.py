"""Actions of an operator on the page, and what it then shows: closing alerts, acknowledging all, extending silences."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from tests.conftest import Database, Server
from tests.web.readings import post, write_rules
from tests.web.visit import open_page, running_with_rules

pytestmark = pytest.mark.xdist_group("browser")
MUTED_RULES = """version: 1
rules:
  - name: too-wet
    sensors: {metric: humidity}
    levels: {warning: {above: 70}}
    mute: [{to: "12:00"}, {from: "12:00"}]
  - name: too-full
    sensors: {metric: level}
    levels: {warning: {above: 3}}
    group_by: [sensor]
"""
NAME = "localStorage.setItem('tidegauge.name', 'Ana')"


@pytest.fixture
async def server(database: Database, tmp_path: Path) -> AsyncIterator[Server]:
    """A server with rules, whose one key may do everything."""
    write_rules(tmp_path)
    (tmp_path / "more.yml").write_text(MUTED_RULES)
    async with running_with_rules(database, tmp_path) as running:
        yield running


def _rows(page: Page) -> Locator:
    return page.locator(".alert-row")


async def test_alert_is_closed_with_name_and_note_and_found_among_those_that_ended(server: Server, page: Page) -> None:
    await post(server, "boiler", temperature=25)
    await server.tick()
    await open_page(page, server, "#/alert/1")
    await page.get_by_role("button", name="Close", exact=True).click()
    await expect(page.get_by_label("Note")).to_be_focused()
    await page.keyboard.type("sensor replaced")
    await page.get_by_label("Your name").fill("Ana")
    await page.keyboard.press("Enter")
    facts = page.locator(".alert-view .facts")
    await expect(facts).to_contain_text("closed by hand")
    await expect(facts).to_contain_text(": sensor replaced")
    await expect(facts).to_contain_text("Lasted")
    await expect(page.get_by_role("button", name="Close", exact=True)).to_have_count(0)
    await page.goto(f"{server.address}/#/history")
    await expect(page.locator(".history-row")).to_contain_text("closed by Ana: sensor replaced")
    await expect(page.locator(".history-row")).not_to_contain_text("open")
    await page.goto(f"{server.address}/#/sensor/boiler")
    await expect(page.locator(".past-alert")).not_to_contain_text("open for")
    await page.goto(f"{server.address}/")
    await page.locator("#resolved summary").click()
    await expect(page.locator(".resolved-row")).to_contain_text("closed by Ana")
    await expect(page.locator("#summary")).to_have_text("All well")


async def test_all_alerts_below_a_heading_are_acknowledged_and_no_others(
    server: Server, database: Database, page: Page
) -> None:
    for number, site in enumerate(("quay", "quay", "pier")):
        await post(server, f"gauge-{number}", tags={"site": site}, level=4)
    await open_page(page, server)
    await page.evaluate(NAME)
    quay = page.locator(".alert-group").filter(has_text="quay")
    await expect(quay.locator("h3")).to_have_text("too-full · quay · 2 alerts")
    await quay.get_by_role("button", name="Ack all").click()
    await expect(quay.locator(".alert-acked")).to_have_text(["Ana", "Ana"])
    await expect(quay.get_by_role("button", name="Ack all")).to_be_hidden()
    await expect(page.locator(".alert-acked")).to_have_count(2)
    assert await database.pool.fetchval("SELECT count(*) FROM alert_episode WHERE acked_by = 'Ana'") == 2


async def test_silence_is_extended_by_an_hour_when_asked(server: Server, database: Database, page: Page) -> None:
    end = datetime.now(UTC) + timedelta(minutes=30)
    body = {"matchers": {"rule": "too-warm"}, "to": end.isoformat(), "author": "Ana"}
    async with server.http.post("/api/v1/silences", json=body) as response:
        assert response.status == 201
    await open_page(page, server, "#/silences")
    row = page.locator(".silence-row")
    await expect(row).to_contain_text("29 min left")
    buttons = row.get_by_role("button")
    await expect(buttons).to_have_text(["Extend by 1 h", "End now"])
    tops = await buttons.evaluate_all("(all) => all.map((each) => each.getBoundingClientRect().top)")
    assert tops[0] == tops[1]
    await buttons.first.click()
    await expect(row).to_contain_text("1 h 29 min left")
    assert await database.pool.fetchval("SELECT ends_at FROM silence") == end + timedelta(hours=1)


async def test_alert_says_until_when_its_rule_is_muted(server: Server, page: Page) -> None:
    await post(server, "cellar", humidity=93)
    await open_page(page, server)
    told = _rows(page).locator(".alert-told")
    await expect(told).to_contain_text("muted to ")
    await page.goto(f"{server.address}/#/rules")
    await expect(page.locator(".rule-row").filter(has_text="too-wet")).to_contain_text("muted to ")


async def test_large_group_shows_its_first_alerts_and_the_rest_when_asked(server: Server, page: Page) -> None:
    for number in range(14):
        await post(server, f"boiler-{number}", temperature=25)
    await post(server, "tank", level=4)
    await open_page(page, server)
    warm = page.locator(".alert-group").filter(has_text="too-warm")
    await expect(warm.locator("h3")).to_have_text("too-warm · 14 alerts")
    await expect(warm.locator(".alert-row")).to_have_count(8)
    await expect(page.locator(".alert-group").filter(has_text="too-full").locator(".alert-row")).to_have_count(1)
    await warm.get_by_role("button", name="Show 6 more").click()
    await expect(warm.locator(".alert-row")).to_have_count(14)
