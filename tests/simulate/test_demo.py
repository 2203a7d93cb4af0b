import asyncio
from urllib.parse import urlsplit

from app.settings import Settings
from app.simulate.demo import demo_gateways, demo_plan
from tests.conftest import API_KEY, Database, Server


async def test_demo_sends_readings_of_five_gateways_when_the_server_is_ready(
    server: Server, database: Database
) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY, port=urlsplit(server.address).port or 0)
    async with asyncio.timeout(30), demo_gateways(settings, API_KEY):
        gateways = 0
        while gateways < 5:
            await asyncio.sleep(0.02)
            gateways = await database.pool.fetchval("SELECT count(DISTINCT gateway) FROM sensor")
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(("demo", "gw-"))] == []
    rows = await database.pool.fetch(
        "SELECT name, gateway, tags ->> 'site' AS site FROM sensor WHERE name ~ '^(freezer|tank|ward)' ORDER BY name"
    )
    assert [tuple(row) for row in rows] == [
        ("freezer-bakery", "gw-bakery", "bakery"),
        ("freezer-dairy", "gw-dairy", "dairy"),
        ("freezer-harbour", "gw-harbour", "harbour"),
        ("tank-dairy", "gw-dairy-2", "dairy"),
        ("ward-clinic", "gw-clinic", "clinic"),
    ]


def test_demo_replays_enough_history_for_the_rule_about_falling_pressure() -> None:
    plan = demo_plan(Settings(), "key", 1_780_272_000_000_000)
    plan.check()
    assert (plan.history_us, plan.demo_start_us) == (4 * 3_600 * 1_000_000, 1_780_272_000_000_000)
