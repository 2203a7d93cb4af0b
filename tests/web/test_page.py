"""The page in a browser: signing in, what it shows without a click, what arrives, and what an operator does."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from app.auth.keys import create_key
from app.live.protocol import heartbeat_message
from app.settings import Settings
from app.worker import Worker
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_api
from tests.sensors.test_routes import OPEN_ALERT
from tests.web.conftest import drop_network_errors
from tests.web.readings import BROKEN_RULES, post, write_rules
from tests.web.visit import KEY as ADMIN_KEY
from tests.web.visit import running_with_rules

pytestmark = pytest.mark.xdist_group("browser")
KEY_ITEM = "sessionStorage.getItem('tidegauge.key')"
#: Less than the time after which the page reads everything again.
A_MOMENT_MS = 8_000


@pytest.fixture
async def ruled(database: Database, tmp_path: Path) -> AsyncIterator[Server]:
    """A server with a rule, whose one key may do everything."""
    async with running_with_rules(database, write_rules(tmp_path)) as server:
        yield server


async def _open(page: Page, server: Server, path: str = "/", key: str = API_KEY_WS) -> None:
    await page.goto(f"{server.address}{path}#key={key}")
    await expect(page.locator("#connection")).to_contain_text("live, ")


def _names(page: Page) -> Locator:
    return page.locator("#table-body .sensor-name")


async def test_page_takes_the_key_from_the_fragment_and_removes_it(server: Server, page: Page) -> None:
    await _open(page, server, "/?q=quay")
    assert page.url == f"{server.address}/?q=quay"
    assert await page.evaluate(KEY_ITEM) == API_KEY_WS
    await expect(page.locator("#gate")).to_be_hidden()
    await page.reload()
    await expect(page.locator("#connection")).to_contain_text("live, ")


async def test_page_says_that_no_worker_runs_and_again_that_all_is_well(database: Database, page: Page) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
    worker = Worker(settings)
    async with running_api(settings, worker) as server:
        await post(server, "pier", temperature=8)
        await _open(page, server)
        await expect(page.locator("#summary")).to_contain_text(" server problem", timeout=20_000)
        await expect(page.locator("#health-list li").first).to_have_text(
            "worker: none runs, so rules are not evaluated and alerts not sent: start `tidegauge work`"
        )
        async with worker.running():
            await expect(page.locator("#summary")).to_have_text("All well", timeout=25_000)
            await expect(page.locator("#health")).to_be_hidden()


async def test_page_takes_the_key_from_its_input_when_enter_is_pressed(server: Server, page: Page) -> None:
    await page.goto(server.address)
    await expect(page.locator("input:visible")).to_have_count(1)
    await expect(page.locator("#key")).to_be_focused()
    await page.keyboard.type(API_KEY_WS)
    await page.keyboard.press("Enter")
    await expect(page.locator("#connection")).to_contain_text("live, ")
    assert await page.evaluate("Object.keys(localStorage).length") == 0


async def test_page_asks_again_when_key_is_wrong(server: Server, page: Page) -> None:
    await page.goto(f"{server.address}/#key=wrong")
    await expect(page.locator("#gate-problem")).to_have_text("This API key is unknown or was revoked")
    assert await page.evaluate(KEY_ITEM) is None
    await page.locator("#key").fill(API_KEY_WS)
    await page.keyboard.press("Enter")
    await expect(page.locator("#connection")).to_contain_text("live, ")


async def test_page_names_the_scope_when_key_lacks_it(server: Server, page: Page) -> None:
    await page.goto(f"{server.address}/#key={API_KEY}")
    await expect(page.locator("#gate-problem")).to_contain_text("this needs live")


async def test_page_forgets_everything_when_signed_out(server: Server, page: Page) -> None:
    await post(server, "quay", level=1)
    await _open(page, server)
    await expect(_names(page)).to_have_text(["quay"])
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.locator("#key")).to_be_focused()
    await expect(page.locator("#overview")).to_be_hidden()
    assert await page.evaluate(KEY_ITEM) is None


async def test_page_shows_alerts_sensors_gateways_and_problems_without_a_click(
    ruled: Server, database: Database, tmp_path: Path, page: Page
) -> None:
    await post(ruled, "boiler", gateway="gw-cellar", temperature=31.5)
    await database.pool.execute("UPDATE series SET unit = '°C'")
    (tmp_path / "broken.yml").write_text(BROKEN_RULES)
    ruled.worker.alerting.keeper.reload_soon()
    await _open(page, ruled, key=ADMIN_KEY)
    alert = page.get_by_role("region", name="Open alerts").get_by_role("listitem")
    await expect(alert).to_contain_text("critical")
    await expect(page.get_by_role("heading", name="too-warm")).to_be_visible()
    await expect(alert.get_by_role("button", name="Ack", exact=True)).to_be_visible()
    row = page.get_by_role("row").filter(has_text="boiler")
    await expect(row).to_contain_text("31.5")
    await expect(page.get_by_role("columnheader", name="temperature °C")).to_be_visible()
    await expect(page.get_by_role("region", name="Gateways")).to_contain_text("gw-cellar")
    await expect(page.get_by_role("region", name="Rule problems")).to_contain_text("broken.yml:6")
    await expect(page.locator("#summary")).to_have_text("1 critical, 1 rule problem")
    await expect(page).to_have_title("(1) Tidegauge")
    assert "image/svg+xml,%3Csvg" in str(await page.locator("#favicon").get_attribute("href"))


async def test_page_says_all_well_when_nothing_is_wrong(server: Server, page: Page) -> None:
    await post(server, "quay", level=1)
    await _open(page, server)
    await expect(page.locator("#summary")).to_have_text("All well")
    await expect(page).to_have_title("Tidegauge")
    await expect(page.locator("#alerts")).to_be_hidden()


async def test_page_shows_a_posted_reading_without_reload(server: Server, page: Page) -> None:
    await post(server, "quay", minutes_ago=1, level=1)
    await _open(page, server)
    row = page.get_by_role("row").filter(has_text="quay")
    await expect(row.locator(".figure")).to_have_text(["1"])
    await page.evaluate("void (window.isSamePage = true)")
    await post(server, "quay", level=2.5)
    await expect(row.locator(".figure")).to_have_text(["2.5"])
    await post(server, "pier", tags={"site": "harbour"}, level=3)
    await expect(_names(page)).to_have_text(["pier", "quay"])
    await expect(row.locator(".figure")).to_have_text(["2.5"])
    await expect(page.get_by_role("row").filter(has_text="pier")).to_contain_text("harbour")
    assert await page.evaluate("window.isSamePage")


async def test_page_keeps_newer_value_when_older_reading_comes_late(server: Server, page: Page) -> None:
    await _open(page, server)
    await post(server, "quay", minutes_ago=1, level=1)
    await post(server, "quay", minutes_ago=5, level=5)
    await post(server, "quay", minutes_ago=5, flow=7)
    await expect(page.get_by_role("row").filter(has_text="quay").locator(".figure")).to_have_text(["7", "1"])


async def test_alert_fires_is_acknowledged_and_resolves_when_readings_say_so(ruled: Server, page: Page) -> None:
    await post(ruled, "boiler", minutes_ago=3, temperature=15)
    await _open(page, ruled, key=ADMIN_KEY)
    await expect(page.locator("#summary")).to_have_text("All well")
    await post(ruled, "boiler", minutes_ago=2, temperature=25)
    row = page.locator(".alert-row")
    await expect(row).to_contain_text("warning")
    await expect(row).to_contain_text("> 20")
    await expect(page.locator("[aria-live]")).to_have_text("New alert. warning: too-warm, boiler.")
    await row.get_by_role("button", name="Ack", exact=True).click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.get_by_label("Your name").fill("Ana")
    await page.keyboard.press("Enter")
    await expect(row).to_have_class(re.compile("acked"))
    await expect(row).to_contain_text("Ana")
    await post(ruled, "boiler", minutes_ago=1, temperature=35)
    await expect(row).to_contain_text("critical")
    await row.get_by_role("button", name="Ack", exact=True).click()
    await expect(row).to_have_class(re.compile("acked"))
    await post(ruled, "boiler", temperature=15)
    await expect(page.locator("#summary")).to_have_text("All well")
    await expect(page.locator("#resolved-count")).to_have_text("1 alert resolved in the last 24 h")


MEAN_RULE = """
version: 1
rules:
  - name: mean-level
    sensors: {metric: level}
    value: avg 10m
    levels: {warning: {above: 3}}
"""


async def test_alert_shows_what_its_rule_compares_now_and_compared_when_it_fired(
    ruled: Server, tmp_path: Path, page: Page
) -> None:
    (tmp_path / "mean.yml").write_text(MEAN_RULE)
    await ruled.worker.alerting.keeper.reload(ruled.worker.pool)
    await post(ruled, "quay", minutes_ago=2, level=2)
    await post(ruled, "quay", minutes_ago=1, level=6)
    await _open(page, ruled, key=ADMIN_KEY)
    row = page.locator(".alert-row")
    await expect(row.locator(".alert-fired")).to_have_text("4")
    await expect(row.locator(".alert-now")).to_have_text("4")
    await page.goto(f"{ruled.address}/#/alert/1")
    await expect(page.get_by_text("Value when it fired")).to_be_visible()


async def test_dialog_confirms_with_enter_when_nobody_gave_a_name(ruled: Server, page: Page) -> None:
    await post(ruled, "boiler", temperature=25)
    await _open(page, ruled, key=ADMIN_KEY)
    await page.get_by_role("button", name="Ack", exact=True).click()
    await expect(page.locator("[role=dialog]")).to_be_visible()
    await page.keyboard.press("Enter")
    await expect(page.locator(".alert-row")).to_contain_text("operator")
    await expect(page.locator("[role=dialog]")).to_be_hidden()


async def test_page_says_why_when_key_may_not_acknowledge(ruled: Server, database: Database, page: Page) -> None:
    key = await create_key(database.pool, "screen", frozenset({"live"}), {})
    await post(ruled, "boiler", temperature=25)
    await _open(page, ruled, key=key)
    reason = re.compile("The key “screen” has the scopes live; this needs admin")
    for name in ("Ack", "Silence"):
        button = page.get_by_role("button", name=name, exact=True)
        await expect(button).to_have_attribute("aria-disabled", "true")
        await expect(button).to_have_attribute("title", reason)
    # Who has no pointer that could rest on the button learns the reason by pressing it.
    await page.get_by_role("button", name="Ack", exact=True).focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_contain_text(reason)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_be_hidden()
    assert await database.pool.fetchval("SELECT acked_by FROM alert_episode") is None


async def test_key_with_live_read_and_admin_acknowledges_and_silences(
    ruled: Server, database: Database, page: Page
) -> None:
    key = await create_key(database.pool, "ana", frozenset({"live", "read", "admin"}), {})
    await post(ruled, "boiler", temperature=25)
    await _open(page, ruled, key=key)
    row = page.locator(".alert-row")
    await row.get_by_role("button", name="Ack", exact=True).click()
    await page.keyboard.press("Enter")
    await expect(row).to_contain_text("operator")
    await row.get_by_role("button", name="Silence", exact=True).click()
    await page.keyboard.press("Enter")
    await expect(row).to_contain_text("silenced to")


async def test_acknowledgement_shows_on_other_open_pages_at_once(
    ruled: Server, browser: Browser, complaints: list[str], page: Page
) -> None:
    await post(ruled, "boiler", temperature=25)
    await _open(page, ruled, key=ADMIN_KEY)
    await expect(page.locator(".alert-row")).not_to_have_class(re.compile("acked"))
    # Whatever the page asks for from now on fails, so that it can only know from the feed.
    await page.route("**/api/v1/**", lambda route: route.abort())
    async with ruled.http.post("/api/v1/alerts/1/ack", json={"by": "Ana"}) as response:
        assert response.status == 200
    await expect(page.locator(".alert-row")).to_have_class(re.compile("acked"))
    await expect(page.locator(".alert-row")).to_contain_text("Ana")
    drop_network_errors(complaints)


async def test_silence_of_somebody_else_shows_after_a_heartbeat(ruled: Server, page: Page) -> None:
    await post(ruled, "boiler", temperature=25)
    await _open(page, ruled, key=ADMIN_KEY)
    row = page.locator(".alert-row")
    await expect(row).to_contain_text("nobody yet")
    end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    silence = {"matchers": {"rule": "too-warm"}, "to": end, "author": "Ana"}
    async with ruled.http.post("/api/v1/silences", json=silence) as response:
        silence_id = (await response.json())["id"]
    ruled.services.feed.hub.send_heartbeat(heartbeat_message(datetime.now(UTC)))
    await expect(row).to_contain_text("silenced to", timeout=A_MOMENT_MS)
    async with ruled.http.delete(f"/api/v1/silences/{silence_id}") as response:
        assert response.status == 204
    ruled.services.feed.hub.send_heartbeat(heartbeat_message(datetime.now(UTC)))
    await expect(row).to_contain_text("nobody yet", timeout=A_MOMENT_MS)


async def test_dialog_acts_once_when_enter_is_pressed_twice(ruled: Server, database: Database, page: Page) -> None:
    await post(ruled, "boiler", temperature=25)
    await _open(page, ruled, key=ADMIN_KEY)
    await page.locator(".alert-row").get_by_role("button", name="Silence", exact=True).click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    submit = "document.querySelector('#dialog form').requestSubmit()"
    await page.evaluate(f"{submit}; {submit}")
    await expect(page.locator(".alert-row")).to_contain_text("silenced to")
    assert await database.pool.fetchval("SELECT count(*) FROM silence") == 1


async def test_new_sensor_gets_its_name_when_the_first_request_for_it_fails(
    server: Server, complaints: list[str], page: Page
) -> None:
    await _open(page, server)
    await page.route("**/api/v1/sensors/pier", lambda route: route.abort(), times=1)
    async with page.expect_event("requestfailed", lambda request: request.url.endswith("/sensors/pier")):
        await post(server, "pier", tags={"site": "harbour"}, level=3)
    await post(server, "quay", level=1)
    await expect(page.get_by_role("row").filter(has_text="pier")).to_contain_text("harbour", timeout=A_MOMENT_MS)
    drop_network_errors(complaints)


async def test_alert_is_silenced_for_four_hours_when_asked(ruled: Server, database: Database, page: Page) -> None:
    await post(ruled, "boiler", temperature=25)
    await _open(page, ruled, key=ADMIN_KEY)
    row = page.locator(".alert-row")
    await row.get_by_role("button", name="Silence").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("rule too-warm, sensor boiler")
    await dialog.get_by_label("4 h").check()
    await dialog.get_by_label("Comment").fill("Being repaired")
    await dialog.get_by_label("Your name").fill("Ana")
    await page.keyboard.press("Enter")
    await expect(row).to_contain_text("silenced to")
    silence = await database.pool.fetchrow("SELECT *, ends_at - starts_at AS length FROM silence")
    assert silence is not None
    assert silence["matchers"] == {"rule": "too-warm", "sensor": "boiler"}
    assert (silence["author"], silence["comment"]) == ("Ana", "Being repaired")
    assert abs(silence["length"].total_seconds() - 4 * 3_600) < 5


async def test_count_filters_alerts_and_sensors_when_clicked(ruled: Server, page: Page) -> None:
    await post(ruled, "boiler", temperature=35)
    await post(ruled, "cellar", temperature=25)
    await post(ruled, "attic", temperature=15)
    await _open(page, ruled, key=ADMIN_KEY)
    await expect(page.locator("#summary")).to_have_text("1 critical, 1 warning")
    await expect(_names(page)).to_have_text(["attic", "boiler", "cellar"])
    await page.get_by_role("button", name="1 critical").click()
    await expect(page.locator(".alert-row")).to_have_count(1)
    await expect(_names(page)).to_have_text(["boiler"])
    assert page.url.endswith("/?show=critical")
    await page.get_by_role("button", name="1 critical").click()
    await expect(_names(page)).to_have_text(["attic", "boiler", "cellar"])


async def test_alert_opens_by_its_address_when_open_or_over(ruled: Server, database: Database, page: Page) -> None:
    await post(ruled, "boiler", minutes_ago=1, temperature=25)
    await _open(page, ruled, key=ADMIN_KEY)
    await expect(page.locator(".alert-row")).to_have_count(1)
    alert_id = await database.pool.fetchval("SELECT id FROM alert_episode")
    await page.goto(f"{ruled.address}/#/alert/{alert_id}")
    view = page.locator("#view")
    await expect(view).to_contain_text("too-warm")
    await expect(view).to_contain_text("> 20")
    await expect(view.get_by_role("button", name="Ack", exact=True)).to_be_visible()
    await post(ruled, "boiler", temperature=15)
    await expect(view).to_contain_text("Ended")
    await expect(view.get_by_role("button", name="Ack", exact=True)).to_have_count(0)
    await page.keyboard.press("Escape")
    await expect(page.locator("#overview")).to_be_visible()


async def test_page_shows_markup_as_text_when_names_contain_it(server: Server, page: Page) -> None:
    image = "<img src=x onerror=alert(1)>"
    await post(server, image, level=1, gateway="<script>alert(3)</script>", tags={"<b>": "<i>"})
    await _open(page, server)
    await expect(_names(page)).to_have_text([image])
    await page.keyboard.press("/")
    await page.keyboard.type("<svg")
    await expect(page.locator("#nothing-text")).to_have_text("No sensor matches “<svg”.")
    assert await page.evaluate("document.querySelectorAll('main img, main script, main b, main i').length") == 0


async def test_page_shows_how_to_send_a_reading_when_there_is_none(server: Server, page: Page) -> None:
    await _open(page, server)
    command = await page.locator("#empty-command").inner_text()
    assert command.startswith(f'curl {server.address}/api/v1/readings \\\n  -H "X-API-Key: $API_KEY"')
    async with server.http.post("/api/v1/readings", data=command.partition("-d '")[2].rstrip("'")) as response:
        assert response.status == 200
    await expect(_names(page)).to_have_text(["harbour"])


async def test_only_alerts_are_announced_to_screen_readers(server: Server, page: Page) -> None:
    await _open(page, server)
    live = "[aria-live], [role=status], [role=alert], [role=log], [role=timer], output"
    assert await page.evaluate(f"[...document.querySelectorAll('{live}')].map((each) => each.id)") == ["announcement"]


async def test_key_in_the_address_is_taken_by_an_open_page(server: Server, page: Page) -> None:
    await page.goto(f"{server.address}/")
    await expect(page.get_by_role("textbox")).to_be_visible()
    await page.evaluate(f"location.hash = '#key={API_KEY_WS}'")
    await expect(page.locator("#connection")).to_contain_text("live, ")
    assert "key=" not in page.url


async def test_key_that_cannot_be_decoded_leads_to_the_form(server: Server, page: Page) -> None:
    await page.goto(f"{server.address}/#key=%zz")
    await expect(page.get_by_role("textbox")).to_be_visible()
    assert "key=" not in page.url


async def test_disaster_is_the_worst_level(server: Server, database: Database, page: Page) -> None:
    await server.post_readings([{"sensor": "cellar", "values": {"temperature": 1}}])
    await database.pool.execute(OPEN_ALERT, "cellar", "burning", "threshold", "disaster", None)
    await _open(page, server)
    await expect(page.get_by_text("1 disaster")).to_be_visible()
    await expect(page.get_by_text("All well")).to_be_hidden()
