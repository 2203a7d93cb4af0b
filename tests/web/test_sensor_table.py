"""The table of sensors: order, filters, groups, columns, keyboard, and only as many rows as are in view."""

import asyncio
from datetime import UTC, datetime

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.conftest import API_KEY_WS, Database, Server
from tests.web.readings import post

pytestmark = pytest.mark.xdist_group("browser")
SENSORS = 2_500


async def _open(page: Page, server: Server, query: str = "") -> None:
    await page.goto(f"{server.address}/{query}#key={API_KEY_WS}")
    await expect(page.locator("#connection")).to_contain_text("live, ")


def _names(page: Page) -> Locator:
    return page.locator("#table-body .sensor-name")


async def test_sensors_are_in_order_of_name_with_numbers_in_their_order(server: Server, page: Page) -> None:
    for sensor in ("quay-10", "pier", "quay-9"):
        await post(server, sensor, level=1)
    await _open(page, server)
    await expect(_names(page)).to_have_text(["pier", "quay-9", "quay-10"])
    await expect(page.locator("#count")).to_have_text("3")


async def test_filter_is_in_the_address_when_typed(server: Server, page: Page) -> None:
    for sensor, metric in (("quay", "level"), ("pier", "level"), ("weir", "flow")):
        await post(server, sensor, tags={"site": f"{sensor}-site"}, values={metric: 1})
    await _open(page, server)
    await expect(_names(page)).to_have_text(["pier", "quay", "weir"])
    await page.keyboard.press("/")
    await page.keyboard.type("Lev QU")
    await expect(_names(page)).to_have_text(["quay"])
    assert page.url.endswith("/?q=Lev+QU")
    await expect(page.locator("#count")).to_have_text("1 of 3")
    await page.keyboard.press("Escape")
    await expect(_names(page)).to_have_text(["pier", "quay", "weir"])
    await page.goto(f"{server.address}/?q=site:weir")
    await expect(_names(page)).to_have_text(["weir"])


async def test_order_is_in_the_address_when_header_is_clicked(server: Server, page: Page) -> None:
    for level, sensor in enumerate(("weir", "quay", "pier")):
        await post(server, sensor, level=level)
    await post(server, "attic", flow=1)
    await _open(page, server)
    header = page.get_by_role("columnheader", name="level")
    await header.get_by_role("button").click()
    await expect(_names(page)).to_have_text(["weir", "quay", "pier", "attic"])
    await header.get_by_role("button").click()
    await expect(_names(page)).to_have_text(["pier", "quay", "weir", "attic"])
    await expect(header).to_have_attribute("aria-sort", "descending")
    assert page.url.endswith("/?sort=-level")


async def test_sensors_are_grouped_by_a_tag_when_chosen(server: Server, page: Page) -> None:
    await post(server, "quay", tags={"site": "harbour"}, level=1)
    await post(server, "crane", tags={"site": "harbour"}, level=1)
    await post(server, "oven", tags={"site": "bakery"}, level=1)
    await post(server, "attic", level=1)
    await _open(page, server)
    await page.get_by_label("Group by").select_option("site")
    groups = page.locator("#table-body .group")
    await expect(groups).to_have_text(["bakery · 1 sensor", "harbour · 2 sensors", "no site · 1 sensor"])
    assert page.url.endswith("/?group=site")


async def test_column_has_the_unit_and_equal_decimals(server: Server, database: Database, page: Page) -> None:
    await post(server, "pier", level=1.25)
    await post(server, "quay", level=2)
    await database.pool.execute("UPDATE series SET unit = 'm'")
    await _open(page, server)
    await expect(page.get_by_role("columnheader", name="level m")).to_be_visible()
    await expect(page.locator("#table-body .figure")).to_have_text(["1.25", "2.00"])


async def test_metrics_share_a_cell_when_there_are_more_than_fit(server: Server, page: Page) -> None:
    await post(server, "host", values={f"metric_{number:02}": number for number in range(15)})
    await _open(page, server)
    await expect(page.locator("#table-body .rest")).to_contain_text("metric_14 14")


async def test_rows_are_walked_and_opened_with_the_keyboard(server: Server, page: Page) -> None:
    for sensor in ("pier", "quay", "weir"):
        await post(server, sensor, level=1)
    await _open(page, server)
    await expect(_names(page)).to_have_text(["pier", "quay", "weir"])
    await page.keyboard.press("s")
    await page.keyboard.press("j")
    await page.keyboard.press("ArrowDown")
    active = await page.locator("#table").get_attribute("aria-activedescendant")
    await expect(page.locator(f"#{active} .sensor-name")).to_have_text("weir")
    await page.keyboard.press("Home")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/#/sensor/pier")


async def test_table_has_at_most_100_rows_when_there_are_thousands_of_sensors(server: Server, page: Page) -> None:
    time = datetime.now(UTC).isoformat()
    readings = [{"sensor": f"s{n:04}", "time": time, "values": {"level": n}} for n in range(SENSORS)]
    assert (await server.post_readings(readings)).status == 200
    await page.set_viewport_size({"width": 1440, "height": 2_000})
    await _open(page, server)
    await expect(page.locator("#count")).to_have_text("2,500")
    rows = "document.querySelectorAll('tr, [role=row]').length"
    async with asyncio.timeout(15):  # not wait_for_function, which the page's Content-Security-Policy refuses
        while await page.evaluate(rows) <= 60:  # noqa: ASYNC110 -- the page draws ten rows a frame
            await asyncio.sleep(0.02)
    assert await page.evaluate(rows) <= 100
    await page.keyboard.press("s")
    await page.keyboard.press("End")
    await expect(_names(page).filter(has_text="s2499")).to_be_visible()
    assert await page.evaluate(rows) <= 100
    await expect(page.locator("#table")).to_have_attribute("aria-rowcount", "2501")


async def test_page_fits_when_screen_is_a_telephone(server: Server, browser: Browser) -> None:
    await post(server, "a-sensor-with-a-name-that-does-not-fit-on-any-telephone", temperature=1, humidity=2, level=3)
    page = await browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    await page.goto(f"{server.address}/#key={API_KEY_WS}")
    await expect(page.locator("#table-body tr")).to_have_count(1)
    assert await page.evaluate("document.documentElement.scrollWidth") == 390
    box = await page.locator("#table-body tr").bounding_box()
    assert box is not None
    assert box["height"] == 40


async def test_each_column_sorts_by_itself_when_a_metric_has_two_units_or_is_called_state(
    server: Server, page: Page
) -> None:
    for number, (sensor, unit) in enumerate((("a", "m"), ("b", "m"), ("c", "m"), ("d", "ft"), ("e", "ft"))):
        values = {"level": 10 - number, "state": number}
        readings = [{"sensor": sensor, "values": values, "units": {"level": unit}}]
        assert (await server.post_readings(readings)).status == 200
    await _open(page, server, "?sort=level+ft")
    await expect(_names(page)).to_have_text(["e", "d", "a", "b", "c"])
    header = page.get_by_role("columnheader", name="state", exact=True)
    await header.get_by_role("button").click()
    await header.get_by_role("button").click()
    await expect(_names(page)).to_have_text(["e", "d", "c", "b", "a"])
