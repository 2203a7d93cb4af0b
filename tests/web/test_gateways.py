"""Gateways on the page: what is left out of their uploads."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.conftest import Database, Server
from tests.web.readings import post, write_rules
from tests.web.visit import open_page, running_with_rules

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture
async def server(database: Database, tmp_path: Path) -> AsyncIterator[Server]:
    """A server whose one key may do everything."""
    async with running_with_rules(database, write_rules(tmp_path)) as running:
        yield running


async def test_card_names_the_fields_that_were_left_out_of_uploads_within_a_day(
    server: Server, database: Database, page: Page
) -> None:
    odd = {"rssi_dbm": -70, "firmware": "2", "hops": 2, "temperature_outside": 3}
    for fields in (odd, odd, {"temperature_outside": 4}):
        reading = {"sensor": "boiler", "time": datetime.now(UTC).isoformat(), "values": {"level": 1}, **fields}
        response = await server.post_readings({"gateway": "attic", "readings": [reading]})
        assert response.status == 200
    await post(server, "door", gateway="yard", level=1)
    await server.services.ingest.gateways.write(server.services.pool)
    await open_page(page, server)
    cards = page.locator(".gateway")
    left_out = cards.filter(has_text="attic").locator(".gateway-left-out")
    await expect(left_out).to_contain_text("fields left out: temperature_outside, ")
    await expect(left_out).to_contain_text(" and 1 more")
    title = await left_out.get_attribute("title") or ""
    assert title.splitlines()[1] == "3 × temperature_outside"
    assert sorted(title.splitlines()[2:]) == ["2 × firmware", "2 × hops", "2 × rssi_dbm"]
    await expect(cards.filter(has_text="yard").locator(".gateway-left-out")).to_be_hidden()
    await database.pool.execute("UPDATE gateway SET unknown_fields_at = now() - INTERVAL '25 hours'")
    await page.reload()
    await expect(cards).to_have_count(2)
    await expect(left_out).to_be_hidden()
