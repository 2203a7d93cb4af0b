from datetime import UTC, datetime, timedelta

import pytest

from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_server
from tests.web.browser import Tab
from tests.wire import wire_to

pytestmark = pytest.mark.xdist_group("browser")

KEY_ITEM = "localStorage.getItem('tidegauge.key')"
NAMES = "[...document.querySelectorAll('tbody .name')].map((cell) => cell.textContent)"


async def _enter_key(tab: Tab, address: str, key: str = API_KEY_WS) -> None:
    await tab.go(address)
    await tab.wait_for("document.activeElement.id === 'key'")
    await tab.type(key)
    await tab.press("Enter")


async def _wait_for_state(tab: Tab, text: str) -> None:
    await tab.wait_for(f"document.querySelector('#connection').innerText.startsWith({text!r})")


async def _wait_for_names(tab: Tab, *names: str) -> None:
    await tab.wait_for(f"JSON.stringify({NAMES}) === JSON.stringify({list(names)})")


async def _post(server: Server, sensor: str, minutes_ago: float = 0, **values: float) -> None:
    time = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    response = await server.post_readings([{"sensor": sensor, "time": time.isoformat(), "values": values}])
    assert response.status == 200


async def test_page_lists_sensors_when_key_is_entered_once(server: Server, tab: Tab) -> None:
    await _post(server, "quay-10", level=1.372, temperature=11.2)
    await _post(server, "quay-9", temperature=1234.5)
    await _enter_key(tab, server.address)
    await _wait_for_names(tab, "quay-9", "quay-10")
    await _wait_for_state(tab, "Connected")
    assert await tab.text("tbody tr:nth-child(2) .readings") == "temperature\n11.2\nlevel\n1.372"
    assert await tab.text("#banner-text") == "All well"
    assert await tab.text("#count") == "2 sensors"
    assert API_KEY_WS not in await tab.evaluate("location.href")
    await tab.go(f"{server.address}/?again")
    await _wait_for_names(tab, "quay-9", "quay-10")
    assert await tab.evaluate("document.querySelector('#key-form').hidden")


async def test_page_shows_value_without_reload_when_reading_is_posted(server: Server, tab: Tab) -> None:
    await _post(server, "quay", minutes_ago=1, level=1)
    await _enter_key(tab, server.address)
    await _wait_for_names(tab, "quay")
    await tab.evaluate("void (window.isSamePage = true)")
    await tab.call("Animation.enable")
    await tab.call("Animation.setPlaybackRate", playbackRate=0.05)  # so that a slow test does not miss the flash
    await _post(server, "quay", level=2.5)
    await tab.wait_for("document.querySelector('dd').textContent === '2.5'")
    assert await tab.evaluate("document.querySelector('dd').getAnimations().length") == 1
    await _post(server, "pier", level=3)
    await _wait_for_names(tab, "pier", "quay")
    assert await tab.evaluate("window.isSamePage")


async def test_page_keeps_newer_value_when_older_reading_comes_late(server: Server, tab: Tab) -> None:
    await _enter_key(tab, server.address)
    await tab.wait_for("!document.querySelector('#empty').hidden")
    await _post(server, "quay", minutes_ago=1, level=1)
    await _post(server, "quay", minutes_ago=5, level=5)
    await _post(server, "quay", minutes_ago=5, flow=7)
    await tab.wait_for("document.querySelectorAll('dd').length === 2")
    assert await tab.text("tbody .readings") == "flow\n7\nlevel\n1"
    assert await tab.text("tbody .seen") == "1 min ago"


async def test_page_does_not_flash_when_less_motion_is_wanted(server: Server, tab: Tab) -> None:
    await tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    await _post(server, "quay", minutes_ago=1, level=1)
    await _enter_key(tab, server.address)
    await _wait_for_names(tab, "quay")
    await _post(server, "quay", level=2)
    await tab.wait_for("document.querySelector('dd').textContent === '2'")
    assert await tab.evaluate("document.getAnimations().length") == 0


async def test_page_reconnects_and_shows_missed_value_when_server_was_gone(server: Server, tab: Tab) -> None:
    await _post(server, "quay", minutes_ago=1, level=1)
    async with wire_to(server.address) as wire:
        await _enter_key(tab, wire.url)
        await _wait_for_state(tab, "Connected")
        await _wait_for_names(tab, "quay")
        await wire.cut()
        await _wait_for_state(tab, "Reconnecting")
        assert await tab.text("#banner-text") == "Not live"
        await _post(server, "quay", level=2)
        await wire.mend()
        await _wait_for_state(tab, "Connected")
        await tab.wait_for("document.querySelector('dd').textContent === '2'")
        assert await tab.text("#banner-text") == "All well"
    # The browser reports each failed connection as an error; there must be no others.
    assert [error for error in tab.errors if not error.startswith("WebSocket connection to")] == []
    tab.errors.clear()


async def test_page_replaces_all_sensors_when_feed_no_longer_has_its_cursor(
    server: Server, database: Database, tab: Tab
) -> None:
    await _post(server, "gone", level=1)
    async with wire_to(server.address) as wire:
        await _enter_key(tab, wire.url)
        await _wait_for_names(tab, "gone")
        await wire.cut()
        await _wait_for_state(tab, "Reconnecting")
        await _post(server, "quay", level=2)
        await database.pool.execute("UPDATE feed_epoch SET pruned_to = (SELECT max(seq) FROM feed)")
        await database.pool.execute("DELETE FROM series_state WHERE last_value = 1")
        await wire.mend()
        await _wait_for_state(tab, "Connected")
        await _wait_for_names(tab, "quay")
    tab.errors.clear()


async def test_page_counts_down_and_retries_at_once_when_asked(server: Server, tab: Tab) -> None:
    async with wire_to(server.address) as wire:
        await _enter_key(tab, wire.url)
        await _wait_for_state(tab, "Connected")
        await wire.cut()
        await tab.wait_for("document.querySelector('#connection-countdown').textContent === ' in 2\\u00a0s'")
        await wire.mend()
        await tab.click("#retry")
        await _wait_for_state(tab, "Connected")
    tab.errors.clear()


async def test_page_asks_again_when_key_is_wrong(server: Server, tab: Tab) -> None:
    await _enter_key(tab, server.address, "wrong")
    await _wait_for_state(tab, "Key refused")
    assert await tab.text("#key-problem") == "This API key is unknown or was revoked"
    assert await tab.evaluate(KEY_ITEM) is None
    await tab.type(API_KEY_WS)
    await tab.press("Enter")
    await _wait_for_state(tab, "Connected")
    assert await tab.evaluate(KEY_ITEM) == API_KEY_WS


async def test_page_names_the_scope_when_key_lacks_it(server: Server, tab: Tab) -> None:
    await _enter_key(tab, server.address, API_KEY)
    await _wait_for_state(tab, "Key lacks the scope live")
    assert "'API_KEY' has the scopes admin, ingest, notify, read; this needs live" in await tab.text("#key-problem")


async def test_page_waits_when_key_has_too_many_connections(database: Database, tab: Tab) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, max_ws_connections_per_key=1)
    headers = {"X-API-Key": API_KEY_WS}
    async with running_server(settings) as server, server.http.ws_connect("/ws/live", headers=headers) as other:
        await _enter_key(tab, server.address)
        await _wait_for_state(tab, "Too many connections with this key, next try in")
        await other.close()
        await tab.click("#retry")
        await _wait_for_state(tab, "Connected")


async def test_page_forgets_key_and_sensors_when_told_to(server: Server, tab: Tab) -> None:
    await _post(server, "quay", level=1)
    await _enter_key(tab, server.address)
    await _wait_for_names(tab, "quay")
    await tab.click("#forget")
    await _wait_for_names(tab)
    assert await tab.evaluate(KEY_ITEM) is None
    assert await tab.evaluate("document.activeElement.id") == "key"
    await _wait_for_state(tab, "Not connected")


async def test_page_shows_markup_as_text_when_names_contain_it(server: Server, tab: Tab) -> None:
    image = "<img src=x onerror=alert(1)>"
    await _post(server, image, level=1)
    await _post(server, "</td><script>alert(2)</script>", minutes_ago=20, level=1)
    await _enter_key(tab, f"{server.address}/?q=<img")
    await _wait_for_names(tab, image)
    await tab.press("/")
    await tab.type("<svg onload=alert(3)>")
    await tab.wait_for("!document.querySelector('#nothing').hidden")
    assert await tab.text("#nothing-text") == "No sensor or metric matches “<svg onload=alert(3)>”."
    assert await tab.text("#banner-detail") == "No reading for over 15 min from </td><script>alert(2)</script>"
    assert await tab.evaluate("document.querySelectorAll('main img, main script, main svg').length") == 0


async def test_page_names_silent_sensors_when_readings_are_old(server: Server, tab: Tab) -> None:
    await _post(server, "pier", level=1)
    await _post(server, "pier", minutes_ago=180, rain=0.2)
    await _post(server, "quay", minutes_ago=16, level=1)
    await _enter_key(tab, server.address)
    await tab.wait_for("document.querySelector('#banner-text').innerText === '1 sensor silent'")
    assert await tab.text("#banner-detail") == "No reading for over 15 min from quay"
    assert await tab.evaluate("document.title") == "1 sensor silent · Tidegauge"
    states = "[...document.querySelectorAll('tbody .state')].map((cell) => cell.innerText)"
    assert await tab.evaluate(states) == ["Fresh", "Stale"]
    assert await tab.text(".old dt") == "rain 3 h ago"
    await tab.click("#banner-show")
    await _wait_for_names(tab, "quay", "pier")
    await _post(server, "quay", level=2)
    await tab.wait_for("document.querySelector('#banner-text').innerText === 'All well'")


async def test_filter_is_in_the_address_when_typed(server: Server, tab: Tab) -> None:
    for sensor, metric in (("quay", "level"), ("pier", "level"), ("weir", "flow")):
        await _post(server, sensor, **{metric: 1})
    await _enter_key(tab, server.address)
    await _wait_for_names(tab, "pier", "quay", "weir")
    await tab.evaluate("document.activeElement.blur()")
    await tab.press("/")
    await tab.type("Lev QU")
    await _wait_for_names(tab, "quay")
    assert await tab.evaluate("location.search") == "?q=Lev+QU"
    assert await tab.text("#count") == "1 of 3 sensors"
    await tab.press("Escape")
    await _wait_for_names(tab, "pier", "quay", "weir")
    assert await tab.evaluate("location.search") == ""
    await tab.go(f"{server.address}/?q=flow")
    await _wait_for_names(tab, "weir")


async def test_order_is_in_the_address_when_header_is_clicked(server: Server, tab: Tab) -> None:
    for minutes, sensor in enumerate(("weir", "quay", "pier")):
        await _post(server, sensor, minutes_ago=minutes, level=1)
    await _enter_key(tab, server.address)
    await _wait_for_names(tab, "pier", "quay", "weir")
    await tab.click("[data-sort=name] button")
    await _wait_for_names(tab, "weir", "quay", "pier")
    await tab.click("[data-sort=seen] button")
    await _wait_for_names(tab, "pier", "quay", "weir")
    assert await tab.evaluate("document.querySelector('[data-sort=seen]').getAttribute('aria-sort')") == "ascending"
    await tab.click("[data-sort=seen] button")
    await _wait_for_names(tab, "weir", "quay", "pier")
    assert await tab.evaluate("location.search") == "?sort=-seen"


async def test_page_shows_how_to_send_a_reading_when_there_is_none(server: Server, tab: Tab) -> None:
    await _enter_key(tab, server.address)
    await tab.wait_for("!document.querySelector('#empty').hidden")
    command = await tab.text("#empty-command")
    assert command.startswith(f'curl {server.address}/api/v1/readings \\\n  -H "X-API-Key: $API_KEY"')
    assert API_KEY_WS not in command
    body = command.partition("-d '")[2].rstrip("'")
    async with server.http.post("/api/v1/readings", data=body) as response:
        assert response.status == 200
    await _wait_for_names(tab, "harbour")


async def test_row_hides_metrics_behind_a_button_when_there_are_many(server: Server, tab: Tab) -> None:
    await _post(server, "host", **{f"metric_{number:02}": number for number in range(15)})
    await _enter_key(tab, server.address)
    await _wait_for_names(tab, "host")
    shown = "[...document.querySelectorAll('dd')].filter((figure) => figure.checkVisibility()).length"
    assert await tab.evaluate(shown) == 12
    assert await tab.text(".more") == "3 more"
    await tab.click(".more")
    assert await tab.evaluate(shown) == 15


async def test_table_has_its_roles_when_read_by_a_screen_reader(server: Server, tab: Tab) -> None:
    await _post(server, "quay", level=1)
    await _enter_key(tab, server.address)
    await _wait_for_names(tab, "quay")
    nodes = (await tab.call("Accessibility.getFullAXTree"))["nodes"]
    named = {(node["role"]["value"], node["name"]["value"]) for node in nodes if "name" in node}
    assert ("table", "Latest readings by sensor") in named
    assert ("columnheader", "Last seen") in named
    assert ("rowheader", "quay") in named
    assert ("status", "") in named


async def test_page_fits_when_screen_is_a_telephone(server: Server, tab: Tab) -> None:
    await tab.call("Emulation.setDeviceMetricsOverride", width=360, height=780, deviceScaleFactor=2, mobile=True)
    await _post(server, "a-sensor-with-a-name-that-does-not-fit-on-any-telephone", temperature=1, humidity=2, level=3)
    await _enter_key(tab, server.address)
    await tab.wait_for("document.querySelectorAll('dd').length === 3")
    assert await tab.evaluate("document.documentElement.scrollWidth") == 360
