"""Keys that are bound to a gateway, over HTTP: they write to its sensors and no other's, on every way in."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from app.auth.keys import Binding, Scope, create_key
from app.ingest.formats import find_handlers
from app.ingest.formats.shapes import find_shapes
from tests.conftest import Database, Server
from tests.ingest.client import READINGS, RECORD, send
from tests.ingest.intakes import INTAKES, send_intake

INGEST: frozenset[Scope] = frozenset({"ingest"})


async def make_key(database: Database, label: str, binding: Binding | None = None, **limits: int) -> str:
    return await create_key(database.pool, label, INGEST, limits, binding)


async def send_readings(server: Server, key: str, *readings: Any, **envelope: str) -> Any:
    answer = await send(server, {**envelope, "readings": readings}, X_API_Key=key)
    assert answer.status == 200, answer
    return answer.body


async def sensors(server: Server) -> dict[str, Any]:
    """Return the sensors by name: owner, tags and the newest temperature."""
    found: Any = await server.get("/api/v1/sensors")
    return {
        each["name"]: (each["owner"], each["tags"], each["latest"].get("temperature", {}).get("value"))
        for each in found["items"]
    }


def oven(value: float = 200, site: str = "bakery", name: str = "oven") -> Any:
    return {"sensor": name, "values": {"temperature": value}, "tags": {"site": site}}


async def test_key_of_one_gateway_writes_neither_readings_nor_tags_nor_metrics_of_anothers_sensor(
    server: Server, database: Database
) -> None:
    a = await make_key(database, "a", Binding("bakery"))
    b = await make_key(database, "b", Binding("kitchen"))
    await send_readings(server, a, oven())
    before = await sensors(server)
    assert before == {"oven": ("bakery", {"site": "bakery"}, 200.0)}
    answer = await send_readings(
        server, b, oven(9, "kitchen"), {"sensor": "oven", "values": {"new": 1, "newer": 2}}, oven(4, name="fridge")
    )
    assert (answer["accepted"], answer["rejected_count"]) == (1, 2)
    assert answer["rejected"][0] == {
        "index": 0,
        "code": "sensor_of_other_gateway",
        "message": (
            "sensor 'oven' was registered by the gateway 'bakery', not by the gateway 'kitchen' of this key; give the "
            "key a --prefix, or set the sensor's owner"
        ),
    }
    assert await sensors(server) == {**before, "fridge": ("kitchen", {"site": "bakery"}, 4.0)}
    assert await database.pool.fetchval("SELECT count(*) FROM series WHERE metric LIKE 'new%'") == 0
    assert await database.pool.fetchval("SELECT count(*) FROM reading") == 2


def test_every_way_in_is_tried() -> None:
    """A format that is added belongs into the table, too."""
    paths = {path for handler in find_handlers() if "POST" in handler.http_methods for path in handler.paths}
    tried = {intake.path.partition("?")[0].replace("{key}", "{key:str}") for intake in INTAKES.values()}
    assert tried == paths
    texts = {shape.media_types for shape in find_shapes() if shape.media_types}
    assert all(any(intake.media_type in some for intake in INTAKES.values()) for some in texts)


async def test_sensor_of_another_gateway_is_refused_on_every_way_in(server: Server, database: Database) -> None:
    a = await make_key(database, "a", Binding("bakery"))
    b = await make_key(database, "b", Binding("kitchen"))
    for intake in INTAKES.values():
        await send_readings(server, a, oven(1, name=intake.sensor))
        before = await sensors(server)
        answer = await send_intake(server, b, intake)
        assert answer.status == intake.refused, intake
        assert "registered by the gateway 'bakery'" in answer.text, intake
        assert await sensors(server) == before == {intake.sensor: ("bakery", {"site": "bakery"}, 1.0)}
        await _delete_sensors(server)


async def test_prefix_is_put_before_each_name_on_every_way_in(server: Server, database: Database) -> None:
    key = await make_key(database, "a", Binding("kitchen", prefix="k/"))
    for intake in INTAKES.values():
        answer = await send_intake(server, key, intake)
        assert answer.status in (200, 201, 204), (intake, answer)
        ((name, (owner, _, value)),) = (await sensors(server)).items()
        assert (name, owner, value) == (f"k/{intake.sensor}", "kitchen", 200.0), intake
        await _delete_sensors(server)


async def test_name_that_is_too_long_with_the_prefix_is_refused(server: Server, database: Database) -> None:
    key = await make_key(database, "b", Binding("kitchen", prefix="k/"))
    long = await send_readings(server, key, oven(name="x" * 199))
    assert [each["code"] for each in long["rejected"]] == ["sensor_invalid"]
    # The prefix keeps two gateways apart that use the same names.
    assert (await send_readings(server, key, oven(2)))["accepted"] == 1
    other = await make_key(database, "a", Binding("bakery", prefix="b/"))
    assert (await send_readings(server, other, oven(1)))["accepted"] == 1


async def test_prefix_and_name_are_stored_in_one_form(server: Server, database: Database) -> None:
    key = await make_key(database, "b", Binding("kitchen", prefix="e"))
    assert (await send_readings(server, key, oven(name="\u0301tage")))["accepted"] == 1
    assert list(await sensors(server)) == ["étage"]


async def test_pattern_of_a_key_holds_on_every_way_in(server: Server, database: Database) -> None:
    strange = await make_key(database, "a", Binding("kitchen", "fridge-*"))
    fitting = await make_key(database, "b", Binding("kitchen", "?*en"))
    for intake in INTAKES.values():
        answer = await send_intake(server, strange, intake)
        assert answer.status == intake.refused, intake
        assert "may write to 'fridge-*' alone" in answer.text, intake
        assert await sensors(server) == {}
        assert (await send_intake(server, fitting, intake)).status in (200, 201, 204), intake
        assert list(await sensors(server)) == [intake.sensor]
        await _delete_sensors(server)


async def test_key_writes_only_to_sensors_that_match_its_pattern(server: Server, database: Database) -> None:
    key = await make_key(database, "a", Binding("bakery", "oven-*"))
    answer = await send_readings(server, key, oven(name="oven-1"), oven(name="fridge"))
    assert answer["accepted"] == 1
    assert answer["rejected"] == [
        {
            "index": 1,
            "code": "sensor_not_allowed",
            "message": (
                "sensor is 'fridge', and the key 'a' may write to 'oven-*' alone; correct the name, or make a key for "
                "this sensor"
            ),
        }
    ]
    assert list(await sensors(server)) == ["oven-1"]


async def test_upload_that_is_only_tried_is_refused_as_it_would_be(server: Server, database: Database) -> None:
    a = await make_key(database, "a", Binding("bakery"))
    b = await make_key(database, "b", Binding("kitchen", prefix="k/"))
    await send_readings(server, a, oven(name="k/oven"))
    answer = await send(server, [oven(), oven(name="fridge")], f"{READINGS}?dry_run=1", X_API_Key=b)
    assert (answer.body["accepted"], [each["code"] for each in answer.body["rejected"]]) == (
        1,
        ["sensor_of_other_gateway"],
    )
    assert list(await sensors(server)) == ["k/oven"]


async def test_gateway_of_a_bound_key_counts_whatever_the_body_says(server: Server, database: Database) -> None:
    key = await make_key(database, "a", Binding("bakery"))
    await send_readings(server, key, oven(), gateway="kitchen")
    assert (await sensors(server))["oven"][0] == "bakery"
    await server.services.ingest.gateways.write(database.pool)
    rows = await database.pool.fetch("SELECT api_key, name FROM gateway")
    assert [tuple(row) for row in rows] == [("a", "bakery")]


async def test_keys_that_are_not_bound_write_to_any_sensor_but_tag_only_their_own(
    server: Server, database: Database
) -> None:
    a, b = await make_key(database, "a"), await make_key(database, "b")
    await send_readings(server, a, oven(1))
    answer = await send_readings(server, b, oven(2, "kitchen"))
    assert (answer["accepted"], answer["rejected_count"]) == (1, 0)
    assert (await sensors(server))["oven"] == (None, {"site": "bakery"}, 2.0)
    await send_readings(server, a, oven(3, "cellar"))
    assert (await sensors(server))["oven"] == (None, {"site": "cellar"}, 3.0)


async def test_tags_that_another_key_brings_do_not_end_an_alert(server: Server, database: Database) -> None:
    a, b = await make_key(database, "a"), await make_key(database, "b")
    await send_readings(server, a, oven(site="cold"))
    await send_readings(server, b, oven(site="warm"), gateway="b")
    await send_readings(server, b, oven(site="warm"))
    assert (await sensors(server))["oven"][1] == {"site": "cold"}


async def test_sensors_of_no_named_gateway_become_those_of_a_key_that_says_so(
    server: Server, database: Database
) -> None:
    await server.post_readings([oven(1, name="oven-1"), oven(1, name="other")])
    plain = await make_key(database, "plain", Binding("bakery"))
    assert (await send_readings(server, plain, oven(2, name="oven-1")))["rejected_count"] == 1
    named = await make_key(database, "named", Binding("bakery", "oven-*"))
    assert (await send_readings(server, named, oven(3, "bakery", name="oven-1")))["accepted"] == 1
    assert (await sensors(server))["oven-1"] == ("bakery", {"site": "bakery"}, 3.0)
    assert (await send_readings(server, plain, oven(4, name="oven-1")))["accepted"] == 1
    other = await make_key(database, "other", Binding("kitchen", "*"))
    assert (await send_readings(server, other, oven(5, name="oven-1")))["rejected_count"] == 1


async def test_owner_that_an_operator_sets_lets_another_gateway_write(server: Server, database: Database) -> None:
    a = await make_key(database, "a", Binding("bakery"))
    b = await make_key(database, "b", Binding("kitchen"))
    await send_readings(server, a, oven())
    assert (await send_readings(server, b, oven(1)))["rejected_count"] == 1
    async with server.http.put("/api/v1/sensors/oven", json={"owner": "kitchen"}) as response:
        assert (response.status, (await response.json())["owner"]) == (200, "kitchen")
    assert (await send_readings(server, b, oven(2, "kitchen")))["accepted"] == 1
    assert (await send_readings(server, a, oven(3)))["rejected_count"] == 1
    assert (await sensors(server))["oven"] == ("kitchen", {"site": "kitchen"}, 2.0)
    async with server.http.put("/api/v1/sensors/oven", json={"owner": ""}) as response:
        assert response.status == 400
        assert "owner is ''; send a gateway's name" in await response.text()


async def test_key_with_a_rate_gets_429_until_its_time_has_come(server: Server, database: Database) -> None:
    key = await make_key(database, "a", uploads_per_minute=2)
    for _ in range(2):
        assert (await _post(server, key, [oven()], READINGS)).status == 200
    for path in (READINGS, "/api/v2/write", RECORD):
        answer = await send(server, [oven()], path, X_API_Key=key)
        assert answer.status == 429
        assert 20 < int(answer.retry_after or 0) <= 30
        assert "this key may send 2 uploads a minute, 2 at once" in msgspec.json.encode(answer.body).decode()
    await database.pool.execute("UPDATE upload_rate SET due_at = due_at - INTERVAL '1 minute'")
    server.services.upload_rates._due_at.clear()
    assert (await _post(server, key, [oven()], READINGS)).status == 200


async def test_warning_names_both_gateways_that_use_one_name(server: Server) -> None:
    now = datetime.now(UTC).isoformat()
    for gateway in ("bakery", "kitchen"):
        await server.post_readings({"gateway": gateway, "readings": [{**oven(), "time": now}]})
    await server.services.ingest.gateways.write(server.services.ingest_pool)
    await server.services._store_seen()
    ready: Any = await server.get("/health/ready")
    assert [text for text in ready["warnings"] if text.startswith("sensors")] == [
        (
            "sensors: two gateways send readings under one name: 'oven' by 'bakery' and 'kitchen'; give the key of one "
            "a --prefix, or set the owner of a sensor that has moved"
        )
    ]


async def _delete_sensors(server: Server) -> None:
    for name in await sensors(server):
        async with server.http.delete(f"/api/v1/sensors/{name}") as response:
            assert response.status == 204


async def _post(server: Server, key: str, body: Any, path: str) -> Any:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    async with server.http.post(path, data=raw, headers={"X-API-Key": key}) as response:
        await response.read()
        return response
