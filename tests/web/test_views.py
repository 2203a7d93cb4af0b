"""The pages beside the overview: a sensor with its trend, silences, rules, deliveries, history, log, the API."""

import base64
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, expect

from app.auth.keys import create_key
from app.settings import Settings
from tests.conftest import Database, Server, running_server
from tests.receivers import WebhookReceiver
from tests.web.readings import BROKEN_RULES, post, write_rules
from tests.web.visit import KEY, open_page

pytestmark = pytest.mark.xdist_group("browser")
#: The mean brightness of an image, given by its address.
MEASURE = """async (address) => {
  const image = new Image();
  image.src = address;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const bytes = canvas.getImageData(0, 0, image.width, image.height).data;
  return bytes.reduce((sum, byte, index) => (index % 4 === 3 ? sum : sum + byte), 0) / (bytes.length * 0.75);
}"""
TOLD = """
INSERT INTO alert_told (channel, episode_id, told, told_level)
VALUES ('duty', 1, 'firing', 'warning'),
       ('siren', 1, 'firing', 'warning');
INSERT INTO notification (channel, group_key, state, due_at, finished_at, error, lost_items)
VALUES ('siren', 'a', 'dead', now(), now(), 'no such host',
        '[{"episode_id": 1, "revision": 1, "kind": "firing", "level": "warning"}]');
"""
INSTALL = "pip install --no-deps --require-hashes -r .requirements/assets.txt"


@pytest.fixture
async def server(database: Database, webhook: WebhookReceiver, tmp_path: Path) -> AsyncIterator[Server]:
    """A server with a rule and a channel, whose one key may do everything."""
    channels = f"version: 1\nchannels:\n  duty:\n    type: webhook\n    url: {webhook.url}\n"
    (tmp_path / "channels.yml").write_text(channels)
    settings = Settings(database_url=database.dsn, api_key=KEY, api_key_ws=KEY, rules_dir=write_rules(tmp_path))
    async with running_server(settings) as running:
        running.http.headers["X-API-Key"] = KEY
        yield running


async def _fire_and_end(server: Server) -> None:
    """Let alert 1 fire and end."""
    await post(server, "boiler", minutes_ago=1, temperature=25)
    await post(server, "boiler", temperature=15)
    await server.tick()


async def _post_hour(server: Server, sensor: str) -> None:
    """Post a reading a minute for an hour, with a gap of twenty minutes, and 25 as the last value."""
    now = datetime.now(UTC)
    readings = [
        {
            "sensor": sensor,
            "time": (now - timedelta(minutes=minutes)).isoformat(),
            "values": {"temperature": 25 if minutes == 0 else 10 + minutes / 10, "humidity": 50},
        }
        for minutes in range(60)
        if not 20 <= minutes < 40
    ]
    assert (await server.post_readings(readings)).status == 200


async def test_sensor_shows_its_trend_with_table_limits_and_alert(server: Server, page: Page) -> None:
    await _post_hour(server, "cold/room%1")
    await server.watch_silence()
    await open_page(page, server, "#/sensor/cold%2Froom%251?range=1h&metric=temperature")
    view = page.locator("#view")
    await expect(view.get_by_role("heading", name="cold/room%1")).to_be_visible()
    await expect(view.locator(".chart canvas")).to_be_visible()
    await expect(view.get_by_role("button", name="temperature")).to_have_attribute("aria-pressed", "true")
    await expect(view).to_contain_text("temperature above 20: warning (too-warm)")
    await expect(view.locator(".past-alert")).to_contain_text("too-warm")
    await view.get_by_text("Table", exact=True).click()
    await expect(view.locator(".buckets tbody tr")).to_have_count(40)
    await expect(view.locator(".buckets tbody tr").first).to_contain_text("25.0")
    await view.get_by_role("button", name="humidity").click()
    await expect(view.locator(".buckets tbody tr").first).to_contain_text("50")
    assert page.url.endswith("?range=1h&metric=humidity")


async def test_trend_gets_its_newest_value_when_a_reading_is_posted(server: Server, page: Page) -> None:
    await _post_hour(server, "quay")
    await open_page(page, server, "#/sensor/quay?metric=temperature")
    await expect(page.get_by_role("button", name="temperature")).to_contain_text("25")
    await post(server, "quay", temperature=26.5)
    await expect(page.get_by_role("button", name="temperature")).to_contain_text("26.5")


async def test_trend_is_zoomed_and_moved_with_the_keyboard(server: Server, page: Page) -> None:
    await _post_hour(server, "quay")
    await open_page(page, server, "#/sensor/quay?range=1h")
    await expect(page.locator(".chart canvas")).to_be_visible()
    await page.locator(".chart").focus()
    await page.keyboard.press("+")
    await page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    start, end = map(int, re.findall(r"(?:from|to)=(\d+)", page.url))
    assert end - start == pytest.approx(1_800_000, abs=10)
    before = page.url
    await page.keyboard.press("ArrowLeft")
    await page.wait_for_url(lambda url: url != before)
    moved = [int(each) for each in re.findall(r"(?:from|to)=(\d+)", page.url)]
    assert moved[0] == pytest.approx(start - 450_000, abs=10)
    await page.keyboard.press("0")
    await page.wait_for_url(re.compile("#/sensor/quay$"))


async def test_trend_is_zoomed_with_the_mouse(server: Server, page: Page) -> None:
    await _post_hour(server, "quay")
    await open_page(page, server, "#/sensor/quay?range=1h")
    await expect(page.locator(".chart canvas")).to_be_visible()
    box = await page.locator(".chart .u-over").bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 50)
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 60, steps=4)
    await page.mouse.up()
    await page.wait_for_url(re.compile(r"from=\d+&to=\d+"))
    start, end = map(int, re.findall(r"(?:from|to)=(\d+)", page.url))
    assert end - start == pytest.approx(1_800_000, rel=0.02)


async def test_trend_is_saved_as_csv_when_asked(server: Server, page: Page) -> None:
    await _post_hour(server, "quay")
    await open_page(page, server, "#/sensor/quay?range=1h&metric=temperature")
    await expect(page.locator(".chart canvas")).to_be_visible()
    async with page.expect_download() as saving:
        await page.get_by_role("button", name="CSV").click()
    download = await saving.value
    lines = (await download.path()).read_text().splitlines()
    assert download.suggested_filename == "quay-temperature.csv"
    assert lines[0] == "time,avg,min,max,count,first,last"
    assert len(lines) == 41
    assert lines[-1].endswith(",25,25,25,1,25,25")


async def test_sensor_shows_the_table_and_what_to_run_when_uplot_is_missing(
    server: Server, complaints: list[str], page: Page
) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=404)

    await page.route("**/vendor/**", refuse)
    await _post_hour(server, "quay")
    await open_page(page, server, "#/sensor/quay?range=1h")
    await expect(page.locator(".chart")).to_contain_text(INSTALL)
    await expect(page.locator(".buckets tbody tr").first).to_be_visible()
    complaints[:] = [each for each in complaints if "404" not in each and "MIME" not in each]


async def test_schema_shows_swagger_ui_from_its_package(server: Server, page: Page) -> None:
    for path in ("/schema", "/schema/"):
        await page.goto(f"{server.address}{path}")
        await expect(page.locator(".swagger-ui .title")).to_contain_text("Tidegauge")
        await expect(page.locator("#missing")).to_be_hidden()
    async with server.http.get("/schema/openapi.json") as response:
        assert response.status == 200
    async with server.http.get("/schema") as response:
        assert response.headers["Content-Security-Policy"].startswith("default-src 'self'; ")
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_schema_says_what_to_run_when_swagger_ui_is_missing(
    server: Server, complaints: list[str], page: Page
) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=404)

    await page.route("**/vendor/**", refuse)
    await page.goto(f"{server.address}/schema")
    await expect(page.locator("#missing")).to_contain_text(INSTALL)
    complaints[:] = [each for each in complaints if "404" not in each and "MIME" not in each]


async def test_schema_is_dark_when_the_system_is(server: Server, page: Page) -> None:
    await page.emulate_media(color_scheme="dark")
    await page.goto(f"{server.address}/schema")
    await expect(page.get_by_role("button", name="Authorize")).to_be_visible()
    assert await _brightness(page) < 64
    await page.emulate_media(color_scheme="light")
    assert await _brightness(page) > 192


async def _brightness(page: Page) -> float:
    """Return the mean brightness of what the page shows, from 0 to 255."""
    shown = base64.b64encode(await page.screenshot()).decode()
    brightness: float = await page.evaluate(MEASURE, f"data:image/png;base64,{shown}")
    return brightness


async def test_alert_that_is_over_shows_whom_it_was_told_and_its_messages(
    server: Server, database: Database, page: Page
) -> None:
    await _fire_and_end(server)
    await database.pool.execute(TOLD)
    await open_page(page, server, "#/alert/1")
    view = page.locator("#view")
    for text in ("Ended", "duty: firing warning", "siren failed", "siren: warning firing, given up", "no such host"):
        await expect(view).to_contain_text(text)
    await expect(view).not_to_contain_text("siren: firing warning")
    await expect(view.get_by_role("button")).to_have_count(0)


async def test_alert_opens_by_one_request_however_many_came_after_it(server: Server, page: Page) -> None:
    await _fire_and_end(server)
    await page.route("**/api/v1/alerts/history**", lambda route: route.fulfill(json={"items": [], "next": None}))
    await open_page(page, server, "#/alert/1")
    await expect(page.locator("#view")).to_contain_text("too-warm")


async def test_page_says_so_when_there_is_no_such_alert(server: Server, complaints: list[str], page: Page) -> None:
    await open_page(page, server, "#/alert/99")
    await expect(page.locator("#view")).to_contain_text("There is no alert 99")
    assert [text for text in complaints if "404" in text] == complaints
    complaints.clear()


async def test_buttons_of_messages_say_why_when_key_may_not_send(
    server: Server, database: Database, page: Page
) -> None:
    key = await create_key(database.pool, "ana", frozenset({"live", "read"}), {})
    await page.goto(f"{server.address}/#key={key}")
    await expect(page.locator("#connection")).to_contain_text("live, ")
    await page.goto(f"{server.address}/#/deliveries")
    button = page.get_by_role("button", name="Send a test")
    await expect(button).to_have_attribute("aria-disabled", "true")
    await expect(button).to_have_attribute("title", re.compile("this needs notify or admin"))


async def test_key_with_live_read_and_admin_tests_a_channel(
    server: Server, database: Database, webhook: WebhookReceiver, page: Page
) -> None:
    key = await create_key(database.pool, "ana", frozenset({"live", "read", "admin"}), {})
    await page.goto(f"{server.address}/#key={key}")
    await expect(page.locator("#connection")).to_contain_text("live, ")
    await page.goto(f"{server.address}/#/deliveries")
    await page.get_by_role("button", name="Send a test").click()
    await expect(page.locator(".channel-row")).to_contain_text("test sent")
    assert len(webhook.accepted) == 1


async def test_silence_is_ended_when_asked(server: Server, database: Database, page: Page) -> None:
    end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    body = f'{{"matchers": {{"rule": "too-warm"}}, "to": "{end}", "author": "Ana", "comment": "Repairs"}}'
    async with server.http.post("/api/v1/silences", data=body) as response:
        assert response.status == 201
    await open_page(page, server, "#/silences")
    row = page.locator(".silence-row")
    for text in ("rule too-warm", "Ana", "Repairs", "min left"):
        await expect(row).to_contain_text(text)
    await row.get_by_role("button", name="End now").click()
    await expect(page.get_by_text("No silence is in force.")).to_be_visible()
    assert await database.pool.fetchval("SELECT ends_at <= now() FROM silence")


async def test_rules_show_levels_problems_and_last_evaluation(server: Server, tmp_path: Path, page: Page) -> None:
    await post(server, "boiler", temperature=25)
    (tmp_path / "broken.yml").write_text(BROKEN_RULES)
    server.worker.alerting.keeper.reload_soon()
    await open_page(page, server, "#/rules")
    row = page.locator(".rule-row")
    for text in (
        "too-warm",
        "metric temperature",
        "warning above 20",
        "critical above 30",
        "firing: 1 warning",
        "duty",
    ):
        await expect(row).to_contain_text(text)
    await expect(page.locator("#view")).to_contain_text("broken.yml:6")
    await expect(page.locator("#view")).to_contain_text("Last evaluation")


async def test_deliveries_show_messages_and_test_a_channel(
    server: Server, webhook: WebhookReceiver, page: Page
) -> None:
    await open_page(page, server, "#/deliveries")
    row = page.locator(".channel-row")
    await expect(row).to_contain_text("duty")
    await row.get_by_role("button", name="Send a test").click()
    await expect(row).to_contain_text("test sent")
    assert len(webhook.accepted) == 1


async def test_dead_letter_is_sent_anew_when_asked(server: Server, database: Database, page: Page) -> None:
    await post(server, "boiler", temperature=25)
    dead = """
    INSERT INTO notification (channel, group_key, state, due_at, finished_at, error)
    VALUES ('duty', '["too-warm", []]', 'dead', now(), now(), 'no such host')
    """
    await database.pool.execute(dead)
    await open_page(page, server, "#/deliveries")
    row = page.locator(".message-row").filter(has_text="no such host")
    await row.get_by_role("button", name="Resend").click()
    await expect(page.locator("#view")).to_contain_text("Given up, and sent anew since")


async def test_history_is_filtered_by_rule_and_sensor(server: Server, page: Page) -> None:
    await post(server, "boiler", minutes_ago=1, temperature=25)
    await post(server, "oven", minutes_ago=1, temperature=35)
    await post(server, "boiler", temperature=15)
    await server.tick()
    await open_page(page, server, "#/history")
    rows = page.locator(".history-row")
    await expect(rows).to_have_count(2)
    await expect(rows.filter(has_text="boiler")).to_contain_text("peak 25")
    await page.get_by_label("Sensor, by its exact name").fill("oven")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(1)
    assert page.url.endswith("#/history?sensor=oven")


async def test_log_waits_while_paused(server: Server, page: Page) -> None:
    await open_page(page, server, "#/log")
    await post(server, "quay", level=1)
    lines = page.locator(".log-row")
    await expect(lines).to_have_count(1)
    await expect(lines).to_contain_text("level 1")
    await page.get_by_role("button", name="Pause").click()
    await post(server, "quay", level=2)
    await expect(page.get_by_role("button", name="Go on, 1 line waiting")).to_be_visible()
    await expect(lines).to_have_count(1)
    await page.get_by_role("button", name="Go on").click()
    await expect(lines).to_have_count(2)
    await expect(lines.first).to_contain_text("level 2")


async def test_page_says_so_when_address_leads_nowhere(server: Server, page: Page) -> None:
    await open_page(page, server, "#/nowhere")
    await expect(page.locator("#view")).to_contain_text("There is no such page")
