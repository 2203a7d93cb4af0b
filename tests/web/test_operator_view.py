"""The first look of an operator at the page: it says nothing false, and hides nothing that matters."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page, expect

from app.settings import Settings
from app.worker import Worker
from tests.conftest import Database, Server, running_api
from tests.web.readings import post, write_rules
from tests.web.visit import KEY, open_page, running_with_rules

pytestmark = pytest.mark.xdist_group("browser")
#: Less than the time after which the page asks for the server's health anew.
AT_ONCE_MS = 10_000
SECOND_TOO_WARM = """version: 1
rules:
  - name: too-warm
    sensors: {metric: temperature}
    levels: {warning: {above: 20}}
"""
MEAN_RULE = """version: 1
rules:
  - name: too-humid
    sensors: {metric: humidity}
    value: avg 10m
    levels: {warning: {outside: [30, 70]}}
"""
RISING_RULE = """version: 1
rules:
  - name: rising
    sensors: {metric: level}
    value: rate 10m
    levels: {warning: {above: 30}}
"""
#: The height of the head as the style knows it and as it is, once the page has drawn twice.
HEAD_HEIGHTS = """async () => {
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const known = getComputedStyle(document.documentElement).getPropertyValue("--head");
  return [parseFloat(known), document.querySelector(".head").offsetHeight - 1];
}"""
#: Alert 1 was told through `duty`, while `siren` tries in vain.
TOLD_IN_PART = """
INSERT INTO notification (channel, group_key, state, due_at, claimed_at, finished_at, error)
VALUES ('duty', 'a', 'sent', now(), now(), now(), NULL), ('siren', 'a', 'sending', now(), now(), NULL, 'no such host');
INSERT INTO notification_item (notification_id, channel, episode_id, revision, kind, level)
SELECT id, channel, 1, 1, 'firing', 'warning' FROM notification;
"""
RESOLVED_ALERTS = """
INSERT INTO alert_episode (rule, series_id, kind, started_at, fired_at, resolved_at, steps, level)
SELECT 'too-warm', 1, 'threshold', at, at, at + INTERVAL '1 second', '[]', 'warning'
  FROM generate_series(now() - $1 * INTERVAL '1 minute', now() - INTERVAL '1 minute', INTERVAL '1 minute') AS at
"""


@pytest.fixture
async def server(database: Database, tmp_path: Path) -> AsyncIterator[Server]:
    """A server with rules, whose one key may do everything."""
    write_rules(tmp_path)
    (tmp_path / "mean.yml").write_text(MEAN_RULE)
    (tmp_path / "rising.yml").write_text(RISING_RULE)
    async with running_with_rules(database, tmp_path) as running:
        yield running


def _row(page: Page) -> Locator:
    return page.locator(".alert-row")


async def test_rule_problem_keeps_its_place_and_text_when_it_names_another_file(
    server: Server, tmp_path: Path, page: Page
) -> None:
    (tmp_path / "copy.yml").write_text(SECOND_TOO_WARM)
    await server.worker.alerting.keeper.reload(server.worker.pool)
    await open_page(page, server)
    problem = page.locator("#problem-list li")
    await expect(problem.locator("code")).to_have_text("warm.yml:4")
    await expect(problem).to_contain_text('the rule "too-warm" is defined twice, first at ')
    await expect(problem).to_contain_text("copy.yml:3:5; choose another name")


async def test_page_names_server_problems_as_soon_as_it_opens(database: Database, page: Page) -> None:
    settings = Settings(database_url=database.dsn, api_key=KEY, api_key_ws=KEY)
    async with running_api(settings, Worker(settings)) as server:
        await open_page(page, server)
        await expect(page.locator("#summary")).to_contain_text(" server problem", timeout=20_000)
        await page.reload()
        await expect(page.locator("#summary")).to_contain_text(" server problem", timeout=AT_ONCE_MS)


async def test_name_that_is_typed_replaces_the_name_in_the_dialog(
    server: Server, database: Database, page: Page
) -> None:
    await post(server, "boiler", temperature=25)
    await open_page(page, server)
    await _row(page).get_by_role("button", name="Ack", exact=True).click()
    await expect(page.get_by_label("Your name")).to_be_focused()
    await page.keyboard.type("Ana")
    await page.keyboard.press("Enter")
    await expect(_row(page)).to_contain_text("Ana")
    assert await database.pool.fetchval("SELECT acked_by FROM alert_episode") == "Ana"


async def test_limit_is_read_in_full_beside_what_the_rule_computes(server: Server, page: Page) -> None:
    await post(server, "cellar", humidity=93)
    await open_page(page, server)
    await expect(_row(page).locator(".alert-metric")).to_have_text("humidity, avg 10m")
    limit = _row(page).locator(".alert-limit")
    await expect(limit).to_have_text("outside 30 to 70")
    assert await limit.evaluate("(each) => each.scrollWidth <= each.clientWidth")


async def test_alert_shows_who_was_told_beside_what_failed(server: Server, database: Database, page: Page) -> None:
    await post(server, "boiler", temperature=25)
    await server.tick()
    await database.pool.execute(TOLD_IN_PART)
    await open_page(page, server)
    told = _row(page).locator(".alert-told")
    await expect(told.locator("span").first).to_have_text("failed: siren")
    await expect(told.locator("span").last).to_contain_text("duty ")
    await expect(told).to_have_attribute("title", "siren: no such host")


@pytest.mark.parametrize("width", [1440, 390])
async def test_silence_shows_at_every_width_also_when_a_channel_failed(
    server: Server, database: Database, page: Page, width: int
) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    await post(server, "boiler", temperature=25)
    await server.tick()
    await open_page(page, server)
    await _row(page).get_by_role("button", name="Silence", exact=True).click()
    await page.keyboard.press("Enter")
    silenced = _row(page).get_by_text("silenced to")
    await expect(silenced).to_be_visible()
    await database.pool.execute(TOLD_IN_PART)
    await page.reload()
    await expect(_row(page)).to_contain_text("failed: siren")
    await expect(silenced).to_be_visible()


async def test_count_of_resolved_alerts_says_at_least_when_not_all_were_read(
    server: Server, database: Database, page: Page
) -> None:
    await post(server, "boiler", temperature=1)
    await database.pool.execute(RESOLVED_ALERTS, 99)
    await open_page(page, server)
    await expect(page.locator("#resolved-count")).to_have_text("99 alerts resolved in the last 24 h")
    await database.pool.execute("DELETE FROM alert_episode")
    await database.pool.execute(RESOLVED_ALERTS, 101)
    await page.reload()
    await expect(page.locator("#resolved-count")).to_have_text("At least 100 alerts resolved in the last 24 h")


async def test_phone_shows_the_value_in_alert_before_others(server: Server, page: Page) -> None:
    await page.set_viewport_size({"width": 390, "height": 800})
    await post(server, "calm", battery=3, humidity=50, temperature=15)
    await post(server, "damp", battery=3, humidity=93, temperature=15)
    await post(server, "hot", battery=3, humidity=50, temperature=31.5)
    await post(server, "warm", temperature=15)
    await open_page(page, server)
    figures = [page.get_by_role("row").filter(has_text=name).locator(".figure") for name in ("calm", "damp", "hot")]
    # The most important value stands at the right; temperature is the commonest.
    await expect(figures[0].last).to_have_text("15")
    await expect(figures[1]).to_have_text(["15", "93"])
    await expect(figures[2].last).to_have_text("31.5")


async def test_phone_shows_alerts_before_problems(server: Server, tmp_path: Path, page: Page) -> None:
    await page.set_viewport_size({"width": 390, "height": 800})
    await post(server, "boiler", temperature=25)
    (tmp_path / "copy.yml").write_text(SECOND_TOO_WARM)
    await server.worker.alerting.keeper.reload(server.worker.pool)
    await open_page(page, server)
    for each in ("#alerts", "#problems"):
        await expect(page.locator(each)).to_be_visible()
    boxes = [await page.locator(each).bounding_box() for each in ("#alerts", "#problems")]
    tops = [box["y"] for box in boxes if box is not None]
    assert tops == sorted(tops)
    assert len(tops) == 2


async def test_sensor_opens_with_the_metric_that_is_in_alert(server: Server, page: Page) -> None:
    await post(server, "boiler", humidity=50, temperature=25)
    await server.tick()
    await open_page(page, server, "#/sensor/boiler")
    tab = page.get_by_role("button", name="temperature")
    await expect(tab).to_have_attribute("aria-pressed", "true")
    await expect(tab.locator(".tab-name")).to_have_attribute("data-kind", "warning")
    await post(server, "boiler", humidity=50, temperature=15)
    await expect(tab.locator(".tab-name")).to_have_attribute("data-kind", "")
    await expect(tab).to_have_attribute("aria-pressed", "true")


async def test_channel_is_not_called_working_while_its_message_is_tried_in_vain(
    server: Server, database: Database, tmp_path: Path, page: Page
) -> None:
    channels = "version: 1\nchannels:\n  siren: {type: webhook, url: 'http://127.0.0.1:9/'}\n"
    (tmp_path / "channels.yml").write_text(channels)
    await server.worker.alerting.keeper.reload(server.worker.pool)
    await post(server, "boiler", temperature=25)
    await server.tick()
    await database.pool.execute("DELETE FROM notification")
    await database.pool.execute(TOLD_IN_PART)
    await database.pool.execute(
        "UPDATE notification SET next_attempt_at = now() + INTERVAL '1 hour' WHERE channel = 'siren'"
    )
    await open_page(page, server, "#/deliveries")
    channel = page.locator(".channel-row")
    await expect(channel).to_contain_text("failing")
    await expect(channel).to_contain_text("no such host")
    await expect(page.locator(".message-row").filter(has_text="siren").first).to_contain_text("next try ")


async def test_history_gives_the_peak_of_what_a_rule_compares(server: Server, page: Page) -> None:
    await post(server, "quay", minutes_ago=9, level=1)
    await post(server, "quay", level=11)
    await server.tick()
    await open_page(page, server, "#/history")
    await expect(page.locator(".history-row")).to_contain_text(re.compile(r"peak \d"))


async def test_what_sticks_below_the_head_knows_its_height(server: Server, page: Page) -> None:
    await open_page(page, server)
    for width in (1440, 700):
        await page.set_viewport_size({"width": width, "height": 800})
        await expect(page.locator("#menu")).to_be_visible()
        found = await page.evaluate(HEAD_HEIGHTS)
        assert found[0] == found[1]


async def test_mark_of_the_connection_stands_still_while_its_age_grows(server: Server, page: Page) -> None:
    await page.set_viewport_size({"width": 390, "height": 800})
    await open_page(page, server)
    left = """(text) => {
      document.getElementById("connection-text").textContent = text;
      return document.getElementById("connection").getBoundingClientRect().left;
    }"""
    assert await page.evaluate(left, "live, now") == await page.evaluate(left, "live, 12 s ago")


async def test_alert_that_began_days_ago_shows_for_how_long(server: Server, database: Database, page: Page) -> None:
    await post(server, "boiler", temperature=25)
    await server.tick()
    await database.pool.execute("UPDATE alert_episode SET started_at = now() - INTERVAL '50 hours'")
    await open_page(page, server)
    since = _row(page).locator(".alert-since")
    await expect(since).to_have_text(re.compile(r" · 2 d 2 h$"))
    assert await since.evaluate("(each) => each.scrollWidth <= each.clientWidth")


async def test_alert_shows_computed_values_with_two_decimals_at_most(server: Server, page: Page) -> None:
    for minutes_ago, humidity in ((2, 81), (1, 80), (0, 81)):
        await post(server, "cellar", minutes_ago=minutes_ago, humidity=humidity)
    await open_page(page, server)
    await expect(_row(page).locator(".alert-now")).to_have_text("80.67")


async def test_newest_value_of_an_alert_says_how_old_it_is(server: Server, page: Page) -> None:
    await post(server, "boiler", minutes_ago=48, temperature=25)
    await post(server, "oven", temperature=25)
    await open_page(page, server)
    boiler, oven = (_row(page).filter(has_text=name).locator(".alert-now") for name in ("boiler", "oven"))
    await expect(boiler).to_have_text("2548 min ago")
    await expect(oven).to_have_text("25")


@pytest.mark.parametrize("width", [1440, 390])
async def test_buttons_of_a_group_stand_side_by_side(server: Server, page: Page, width: int) -> None:
    await page.set_viewport_size({"width": width, "height": 800})
    await post(server, "boiler", tags={"site": "harbour"}, temperature=25)
    await post(server, "oven", tags={"site": "harbour"}, temperature=25)
    await open_page(page, server)
    ack = await page.get_by_role("button", name="Ack all").bounding_box()
    silence = await page.get_by_role("button", name="Silence all").bounding_box()
    assert ack is not None
    assert silence is not None
    assert 0 < silence["x"] - (ack["x"] + ack["width"]) < 10
    assert ack["height"] == silence["height"] < 30
