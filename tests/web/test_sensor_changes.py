"""Sensors that an operator describes, renames, retires and deletes on the page."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Locator, Page, expect

from app.auth.keys import create_key
from app.settings import Settings
from tests.conftest import Database, Server, running_server
from tests.web.readings import post
from tests.web.visit import KEY, open_page

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture
async def server(database: Database) -> AsyncIterator[Server]:
    """A server with a sensor, whose one key may do everything."""
    async with running_server(Settings(database_url=database.dsn, api_key=KEY, api_key_ws=KEY)) as running:
        running.http.headers["X-API-Key"] = KEY
        await post(running, "pi-7", tags={"site": "harbour"}, level=1)
        yield running


def _button(page: Page, name: str) -> Locator:
    return page.locator("#view").get_by_role("button", name=name, exact=True)


def _names(page: Page) -> Locator:
    return page.locator("#table-body .sensor-name")


async def test_sensor_shows_what_was_edited_in_its_view_and_in_the_list(server: Server, page: Page) -> None:
    await open_page(page, server, "#/sensor/pi-7")
    await _button(page, "Edit").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_label("Tags")).to_have_value("site: harbour")
    await dialog.get_by_label("Notes").fill("Behind the second door")
    await dialog.get_by_label("Tags").fill("site: harbour\nroom: a:1")
    await dialog.get_by_label("Unit of level").fill("m")
    await dialog.get_by_label("Interval").fill("10m")
    await dialog.get_by_label("Shown as").fill("Quay wall")
    await page.keyboard.press("Enter")
    view = page.locator("#view")
    await expect(view.get_by_role("heading", name="Quay wall")).to_be_visible()
    for text in ("pi-7", "Behind the second door", "room: a:1, site: harbour", "level: m", "10 min"):
        await expect(view.locator(".facts")).to_contain_text(text)
    await expect(view.get_by_role("button", name="level")).to_contain_text("1\u202fm")
    sensor = await server.get("/api/v1/sensors/pi-7")
    assert (sensor["display_name"], sensor["expected_interval"]) == ("Quay wall", 600.0)
    assert sensor["tags"] == {"site": "harbour", "room": "a:1"}
    await page.keyboard.press("Escape")
    await expect(_names(page)).to_have_text(["Quay wall"])
    assert str(await _names(page).get_attribute("title")).startswith("pi-7\n")


async def test_field_takes_back_what_was_set_when_emptied(server: Server, page: Page) -> None:
    body = {"display_name": "Quay wall", "tags": {"room": "1"}, "notes": "Old", "units": {"level": "cm"}}
    async with server.http.put("/api/v1/sensors/pi-7", json=body) as response:
        assert response.status == 200
    await open_page(page, server, "#/sensor/pi-7")
    await expect(page.locator("#view").get_by_role("heading", name="Quay wall")).to_be_visible()
    await _button(page, "Edit").click()
    for label in ("Tags", "Notes", "Unit of level", "Shown as"):
        await page.get_by_role("dialog").get_by_label(label).fill("")
    await page.keyboard.press("Enter")
    await expect(page.locator("#view").get_by_role("heading", name="pi-7")).to_be_visible()
    sensor = await server.get("/api/v1/sensors/pi-7")
    assert (sensor["display_name"], sensor["notes"], sensor["tags"]) == (None, None, {"site": "harbour"})


async def test_dialog_says_what_is_wrong_and_stays_open_when_a_field_is(
    server: Server, complaints: list[str], page: Page
) -> None:
    await open_page(page, server, "#/sensor/pi-7")
    await _button(page, "Edit").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Tags").fill("harbour")
    await dialog.get_by_label("Name", exact=True).press("Enter")
    await expect(dialog).to_contain_text("“harbour” has no value")
    await dialog.get_by_label("Tags").fill("site: harbour")
    await dialog.get_by_label("Interval").fill("often")
    await page.keyboard.press("Enter")
    await expect(dialog).to_contain_text("expected_interval")
    assert [text for text in complaints if "400" in text] == complaints
    complaints.clear()


async def test_address_under_an_old_name_opens_the_sensor_under_its_new_name(server: Server, page: Page) -> None:
    await open_page(page, server, "#/sensor/pi-7?metric=level")
    await _button(page, "Edit").click()
    await page.get_by_role("dialog").get_by_label("Name", exact=True).fill("quay/wall")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/#/sensor/quay%2Fwall?metric=level")
    await expect(page.locator("#view").get_by_role("heading", name="quay/wall")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(_names(page)).to_have_text(["quay/wall"])
    await page.goto(f"{server.address}/#/sensor/pi-7")
    await page.wait_for_url("**/#/sensor/quay%2Fwall")
    await expect(page.locator("#view .facts")).to_contain_text("Old names")


async def test_open_page_learns_the_new_name_without_a_reading(server: Server, page: Page) -> None:
    await open_page(page, server)
    await expect(_names(page)).to_have_text(["pi-7"])
    async with server.http.put("/api/v1/sensors/pi-7", json={"name": "quay"}) as response:
        assert response.status == 200
    await expect(_names(page)).to_have_text(["quay"])
    await expect(page.get_by_role("row").filter(has_text="quay").locator(".figure")).to_have_text(["1"])


async def test_retired_sensor_leaves_the_list_until_it_is_used_again(server: Server, page: Page) -> None:
    await open_page(page, server, "#/sensor/pi-7")
    await _button(page, "Retire").click()
    await expect(page.get_by_role("dialog")).to_contain_text("comes back by itself when it reports again")
    await page.keyboard.press("Enter")
    await expect(_button(page, "Use again")).to_be_visible()
    await expect(page.locator("#view .sensor-head")).to_contain_text("retired")
    await page.keyboard.press("Escape")
    await expect(page.locator("#empty")).to_be_visible()
    await page.goto(f"{server.address}/#/sensor/pi-7")
    await _button(page, "Use again").click()
    await expect(_button(page, "Retire")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(_names(page)).to_have_text(["pi-7"])


async def test_retired_sensor_comes_back_when_it_reports(server: Server, page: Page) -> None:
    async with server.http.put("/api/v1/sensors/pi-7", json={"retired": True}) as response:
        assert response.status == 200
    await open_page(page, server)
    await expect(page.locator("#empty")).to_be_visible()
    await post(server, "pi-7", level=2)
    await expect(_names(page)).to_have_text(["pi-7"])


async def test_sensor_is_deleted_when_asked_twice_and_its_name_is_typed(
    server: Server, database: Database, page: Page
) -> None:
    await open_page(page, server, "#/sensor/pi-7")
    await _button(page, "Delete").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Delete pi-7 with all its readings")
    await page.keyboard.press("Enter")
    await dialog.get_by_label("Name").fill("pi-8")
    await page.keyboard.press("Enter")
    await expect(dialog).to_contain_text("This is not the name: pi-7")
    assert await database.pool.fetchval("SELECT deleted_at FROM sensor") is None
    await dialog.get_by_label("Name").fill("pi-7")
    await page.keyboard.press("Enter")
    await expect(page.locator("#empty")).to_be_visible()
    await expect(dialog).to_be_hidden()
    async with server.http.get("/api/v1/sensors/pi-7") as response:
        assert response.status == 404


async def test_sensor_cannot_be_changed_when_key_lacks_admin(server: Server, database: Database, page: Page) -> None:
    key = await create_key(database.pool, "screen", frozenset({"live", "read"}), {})
    await open_page(page, server, "#/sensor/pi-7", key)
    for name in ("Edit", "Retire", "Delete"):
        await expect(_button(page, name)).to_have_attribute("aria-disabled", "true")
