"""Names in queries, changes and subscriptions are read as those in uploads: in one form of Unicode, without blanks."""

from typing import Any

import msgspec
import pytest

from app.db.migrations import load_migrations, migrate
from app.db.pool import Pool, open_pool
from app.live.protocol import Subscribe, parse_message
from app.names import tidy_name
from tests.conftest import YESTERDAY, YESTERDAY_AT_8_MS, Database, Server

#: "étuve", "chaleur é", "bâtiment", as they are stored, and as another program may write them.
SENSOR, METRIC, GATEWAY = "\u00e9tuve", "chaleur \u00e9", "b\u00e2timent"
OTHER_SENSOR, OTHER_METRIC, OTHER_GATEWAY = " e\u0301tuve", "chaleur e\u0301\u00a0", "ba\u0302timent\u2003"
READING = {"sensor": SENSOR, "time": YESTERDAY_AT_8_MS, "values": {METRIC: 21.5}}


@pytest.fixture
async def filled(server: Server) -> Server:
    """A server with one reading, whose gateway also sent one that was refused."""
    refused = {"sensor": SENSOR, "values": {METRIC: None}}
    assert (await server.post_readings({"gateway": GATEWAY, "readings": [READING, refused]})).status == 200
    return server


async def test_sensor_and_metric_are_found_by_another_form_of_their_names(filled: Server) -> None:
    since = f"{YESTERDAY}T00:00:00Z"
    for sensor in (SENSOR, OTHER_SENSOR):
        named = {"sensor": sensor, "metric": OTHER_METRIC, "from": since}
        readings: Any = await filled.get("/api/v1/readings", **named)
        assert [item["values"] for item in readings["items"]] == [{METRIC: 21.5}]
        trend: Any = await filled.get("/api/v1/trends", **named)
        assert [bucket["avg"] for bucket in trend["buckets"]] == [21.5]
        assert (await filled.get(f"/api/v1/sensors/{sensor}"))["name"] == SENSOR
        for path in ("/api/v1/limits", "/api/v1/alerts", "/api/v1/alerts/history"):
            assert (await filled.get(path, sensor=sensor))["items"] == []


async def test_old_name_of_a_sensor_is_found_by_another_form(filled: Server) -> None:
    await _put(filled, OTHER_SENSOR, name=" four\u00a0")
    assert (await filled.get(f"/api/v1/sensors/{OTHER_SENSOR}"))["name"] == "four"
    assert (await _put(filled, "four", old_names=[OTHER_SENSOR]))["old_names"] == [SENSOR]
    assert (await _put(filled, "four", old_names=[]))["old_names"] == []


async def test_change_of_a_sensor_takes_another_form_of_its_names(filled: Server) -> None:
    changed = await _put(filled, OTHER_SENSOR, units={OTHER_METRIC: "°C"}, owner=OTHER_GATEWAY)
    assert (changed["owner"], changed["latest"][METRIC]["unit"]) == (GATEWAY, "°C")


async def test_silence_matches_names_in_another_form(filled: Server) -> None:
    matchers = {"sensor": OTHER_SENSOR, "metric": OTHER_METRIC, "gateway": f"{OTHER_GATEWAY.strip()}*"}
    async with filled.http.post("/api/v1/silences", json={"matchers": matchers, "for": "1h"}) as response:
        assert (await response.json())["matchers"] == {"sensor": SENSOR, "metric": METRIC, "gateway": f"{GATEWAY}*"}


async def test_refusals_of_a_gateway_are_found_by_another_form_of_its_name(filled: Server, database: Database) -> None:
    await filled.services.ingest.gateways.write(database.pool)
    for name in (GATEWAY, OTHER_GATEWAY):
        refused: Any = await filled.get(f"/api/v1/gateways/{name}/rejected")
        assert [item["by_code"] for item in refused["items"]] == [{"value_not_a_number": 1}]


def test_subscription_takes_names_in_another_form() -> None:
    message = parse_message(
        msgspec.json.encode(
            {"type": "subscribe", "sensors": [OTHER_SENSOR], "metrics": [OTHER_METRIC], "gateway": OTHER_GATEWAY}
        )
    )
    assert message == Subscribe((SENSOR,), (METRIC,), gateway=GATEWAY)


async def test_database_tidies_names_as_uploads_are(database: Database) -> None:
    spaces = "".join(chr(code) for code in range(1, 0x11000) if chr(code).isspace())
    names = [f"{spaces}a b{spaces}", OTHER_SENSOR, SENSOR, "\u212b", "", " ", "\u0644\u0627\u200d", "x" * 500]
    tidied = await database.pool.fetch("SELECT tidy_name(name) FROM unnest($1::text[]) AS name", names)
    assert [row[0] for row in tidied] == [tidy_name(name) for name in names]


async def test_name_as_it_stands_goes_before_another_form_of_it(database: Database) -> None:
    """Earlier releases stored names as they were sent."""
    await _insert_sensors(database.pool, SENSOR, OTHER_SENSOR)
    for name in (SENSOR, OTHER_SENSOR):
        found = await database.pool.fetchval("SELECT name FROM sensor WHERE id = find_sensor($1)", name)
        assert found == name


async def _insert_sensors(pool: Pool, *names: str) -> None:
    await pool.execute("INSERT INTO sensor (name, created_by) SELECT name, 'k' FROM unnest($1::text[]) AS name", names)


async def _put(server: Server, sensor: str, **fields: Any) -> Any:
    async with server.http.put(f"/api/v1/sensors/{sensor}", json=fields) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_names_of_earlier_releases_become_tidy_where_that_name_is_free(empty_dsn: str) -> None:
    files = load_migrations()
    (own,) = [each.version for each in files if each.name.endswith("_names_and_fields.sql")]
    await migrate(empty_dsn, migrations=files[: own - 1])
    async with await open_pool(empty_dsn) as pool:
        await _insert_sensors(pool, " a", "a ", "b", "b ", "\u00e9", "c\u0301")
        await pool.execute(
            "INSERT INTO series (sensor_id, metric) SELECT id, m FROM sensor, unnest(ARRAY['t ', ' t', 'h']) AS m"
            " WHERE name = ' a'"
        )
        await pool.execute("UPDATE sensor SET gateway = 'g ', owner = ' g' WHERE name = 'b'")
        await pool.execute("INSERT INTO sensor_alias (name, sensor_id) SELECT 'old ', id FROM sensor WHERE name = 'b'")
        await pool.execute(
            "INSERT INTO api_key (label, sha256, scopes, gateway) VALUES ('k ', '', '{ingest}', 'k ');"
            "INSERT INTO gateway (api_key, name, first_upload_at, last_upload_at) VALUES ('k ', 'k ', now(), now());"
            "INSERT INTO silence (matchers, starts_at, ends_at, author, comment)"
            " VALUES ('{\"sensor\": \" a\"}', now(), now() + INTERVAL '1 hour', 'ann', '')"
        )
        version = await pool.fetchval("SELECT version FROM sensor_version")
        await migrate(empty_dsn, migrations=files)
        renamed = [
            await pool.fetchval(query)
            for query in (
                "SELECT name FROM sensor_alias",
                "SELECT gateway FROM api_key",
                "SELECT name FROM gateway",
                "SELECT matchers ->> 'sensor' FROM silence",
            )
        ]
        assert await pool.fetchval("SELECT version FROM sensor_version") > version
        names = [row[0] for row in await pool.fetch("SELECT name FROM sensor ORDER BY id")]
        metrics = [row[0] for row in await pool.fetch("SELECT metric FROM series ORDER BY id")]
        gateway = await pool.fetchrow("SELECT gateway, owner FROM sensor WHERE name = 'b'")
    assert names == ["a", "a ", "b", "b ", "\u00e9", "\u0107"]
    assert renamed == ["old", "k", "k", "a"]
    assert (sorted(metrics), tuple(gateway or ())) == ([" t", "h", "t"], ("g", "g"))
