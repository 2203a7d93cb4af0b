"""The ingest endpoints over HTTP: stored rows and answers, which do not depend on how the readings are sent."""

import asyncio
import gzip
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.auth.keys import create_key
from app.clock import now_us, rfc3339, to_us
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_server
from tests.ingest.client import RECORD, Answer, send

NOW_MS = now_us() // 1_000
RUNS = iter(range(10**9))
ENCODINGS: dict[str, tuple[Callable[[Any], bytes], dict[str, str]]] = {
    "json": (msgspec.json.encode, {}),
    "msgpack": (msgspec.msgpack.encode, {"Content_Type": "application/msgpack"}),
    "gzip": (lambda body: gzip.compress(msgspec.json.encode(body)), {"Content_Encoding": "gzip"}),
    "zstd": (lambda body: zstandard.compress(msgspec.json.encode(body)), {"Content_Encoding": "zstd"}),
    "packed": (
        lambda body: zstandard.compress(msgspec.msgpack.encode(body)),
        {"Content_Type": "application/msgpack", "Content_Encoding": "zstd"},
    ),
}
ROWS_OF_SENSORS = """
SELECT name, metric, to_us(time) AS us, value
  FROM reading JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id
 WHERE name = ANY($1) ORDER BY 1, 2, 3
"""
STATES_OF_SENSORS = """
SELECT name, metric, to_us(last_time) AS us, last_value
  FROM series_state JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id
 WHERE name = ANY($1) ORDER BY 1, 2
"""
THERMOMETER = {"temperature": 25.5, "humidity": 60.2, "pressure": 1012.5, "sensor_id": "sensor_001"}


async def test_readings_count_once_when_posted_twice(server: Server) -> None:
    body = [
        {"sensor": "pi1", "time": NOW_MS - 299_000 + number * 1_000, "values": {"temperature": number, "humidity": 50}}
        for number in range(300)
    ]
    first, second = await send(server, body), await send(server, body)
    assert first.counts == {"seq": 1, "accepted": 600, "duplicates": 0, "rejected": [], "rejected_count": 0}
    assert second.counts == {"seq": None, "accepted": 0, "duplicates": 600, "rejected": [], "rejected_count": 0}
    for metric in ("temperature", "humidity"):
        trend: Any = await server.get("/api/v1/trends", sensor="pi1", metric=metric)
        assert sum(bucket["count"] for bucket in trend["buckets"]) == 300


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), batch_sizes=st.lists(st.sampled_from([10, 30, 110, 160]), min_size=2))
async def test_stored_rows_do_not_depend_on_batches_order_repetition_and_encoding(
    server: Server, database: Database, seed: int, batch_sizes: list[int]
) -> None:
    random = Random(seed)
    run = next(RUNS)
    sent = [_random_reading(random, run) for _ in range(random.choice((3, 40, 150)))]
    # Readings with the same sensor and time have the same values, as from a gateway that sends them again.
    unique = list({(item["sensor"], item["time"]): item for item in sent}.values())
    again = [random.choice(unique) for _ in range(len(unique) // 2)]
    order = random.sample(unique + again, len(unique) + len(again))
    accepted = duplicates = 0
    while order:
        size = random.choice(batch_sizes)
        batch, order = order[:size], order[size:]
        for answer in await _send_by_gateway(server, random, batch):
            assert (answer.status, answer.body["rejected"]) == (200, []), answer
            accepted, duplicates = accepted + answer.body["accepted"], duplicates + answer.body["duplicates"]
    values = sum(len(item["values"]) for item in unique)
    assert (accepted, duplicates) == (values, sum(len(item["values"]) for item in again))
    await _check_stored(database, unique)


async def test_answer_has_the_time_of_receipt(server: Server) -> None:
    before = now_us()
    answer = await send(server, [{"sensor": "pi1", "values": {"t": 1}}])
    time = to_us(datetime.fromisoformat(answer.body["server_time"]))
    assert before <= time <= now_us()


async def test_bad_values_are_listed_with_advice_and_the_others_are_stored(server: Server, database: Database) -> None:
    raw = b"""{"gateway": "roof", "readings": [
        {"sensor": "pi1", "values": {"a": NaN, "b": Infinity, "c": null, "d": 1}},
        {"sensor": "pi1", "time": "2026-01-31T08:00:00", "values": {"d": 1, "e": 2}},
        {"sensor": "", "values": {"d": 1}},
        {"sensor": "pi2", "values": {"t": 1}, "tags": {"site": "\\ud800"}},
        {"sensor": "pi3", "values": {"\\ud800": 1, "t": 3}}
    ]}"""
    answer = await send(server, raw)
    assert (answer.status, answer.body["accepted"], answer.body["rejected_count"]) == (200, 3, 6)
    assert answer.body["rejected"][2:4] == [
        {
            "index": 0,
            "code": "value_not_a_number",
            "metric": "c",
            "message": "c is null; send a number, or leave the metric out",
        },
        {
            "index": 1,
            "code": "time_without_zone",
            "message": "time is '2026-01-31T08:00:00', which has no zone; write 2026-01-31T08:00:00Z for UTC",
        },
    ]
    rows = await database.pool.fetch(ROWS_OF_SENSORS, ["pi1", "pi2", "pi3"])
    assert [(row["name"], row["metric"], row["value"]) for row in rows] == [
        ("pi1", "d", 1.0),
        ("pi2", "t", 1.0),
        ("pi3", "t", 3.0),
    ]


async def test_answer_is_200_with_100_listed_rejections_when_all_values_are_rejected(
    server: Server, database: Database
) -> None:
    future = (datetime.now(UTC).timestamp() + 3_600) * 1_000
    answer = await send(server, [{"sensor": "pi1", "time": future, "values": {"t": 1, "h": 1}}] * 150)
    assert (answer.status, answer.body["seq"], answer.body["accepted"], answer.body["rejected_count"]) == (
        200,
        None,
        0,
        150,
    )
    assert len(answer.body["rejected"]) == 100
    assert await database.pool.fetchval("SELECT count(*) FROM sensor") == 0
    async with server.http.get("/metrics") as response:
        assert 'tidegauge_values_rejected_total{code="time_in_future"} 150.0' in await response.text()


async def test_readings_without_time_are_stored_a_microsecond_apart(server: Server, database: Database) -> None:
    before = now_us()
    answers = [await send(server, [{"sensor": "pi1", "values": {"t": number}} for number in range(300)]) for _ in "12"]
    assert [answer.body["accepted"] for answer in answers] == [300, 300]
    times = [row["us"] for row in await database.pool.fetch(ROWS_OF_SENSORS, ["pi1"])]
    assert times[:300] == list(range(times[0], times[0] + 300))
    assert before <= times[0] < times[300] <= now_us()


async def test_upload_is_refused_with_cause_and_advice_when_it_cannot_be_parsed(server: Server) -> None:
    bomb = zstandard.compress(b" " * (64 * 2**20 + 1))
    cases: list[tuple[bytes, dict[str, str], int, str]] = [
        (b"", {}, 400, "The body is not valid JSON: "),
        (b"{", {}, 400, "The body is not valid JSON: "),
        (b"[]", {"Content_Type": "application/msgpack"}, 400, "The body is not valid MessagePack: "),
        (b"5", {}, 400, "The body is neither a list of readings nor "),
        (b'{"readings": [], "gateway": 5}', {}, 400, "gateway is 5; send a text of 1 to 200 printable characters"),
        (b"[]", {"Content_Encoding": "gzip"}, 400, "The body is not valid gzip: "),
        (b"[]", {"Content_Encoding": "br"}, 400, "Content-Encoding is 'br'; use gzip, zstd or none"),
        (b" " * (16 * 2**20 + 1), {}, 413, "The body is larger than 16 MiB as sent; send smaller batches"),
        (
            bomb,
            {"Content_Encoding": "zstd"},
            413,
            "The body is larger than 64 MiB once decompressed; send smaller batches",
        ),
        (b"[" + b"1," * 100_000 + b"1]", {}, 413, "The body has 100001 readings; send at most 100000 at a time"),
    ]
    for body, headers, status, detail in cases:
        answer = await send(server, body, **headers)
        assert (answer.status, answer.content_type) == (status, "application/problem+json"), detail
        assert answer.body["detail"].startswith(detail)


async def test_upload_is_accepted_when_its_size_equals_the_limit(server: Server) -> None:
    small = b'[{"sensor":"pi1","values":{"t":1}}]'
    assert (await send(server, small + b" " * (16 * 2**20 - len(small)))).status == 200
    padded = small + b" " * (64 * 2**20 - len(small))
    assert (await send(server, zstandard.compress(padded), Content_Encoding="zstd")).status == 200


async def test_new_sensors_are_rejected_with_a_code_when_a_key_has_reached_its_cap(server: Server) -> None:
    key = await create_key(server.services.pool, "roof", frozenset({"ingest"}), {"sensors": 2})
    bodies = [
        [{"sensor": f"pi{number}", "values": {"t": 1, "h": 2}} for number in numbers] for numbers in ((1, 2, 3), (2, 4))
    ]
    answers = [await send(server, body, X_API_Key=key) for body in bodies]
    assert [(answer.body["accepted"], answer.body["rejected_count"]) for answer in answers] == [(4, 1), (2, 1)]
    assert [(item["index"], item["code"]) for answer in answers for item in answer.body["rejected"]] == [
        (2, "too_many_sensors"),
        (1, "too_many_sensors"),
    ]
    record = await send(server, THERMOMETER, RECORD, X_API_Key=key)
    assert record.status == 422
    assert record.body["detail"].startswith(
        "sensor 'sensor_001' is new, and the key 'roof' has brought as many sensors"
    )
    assert (await send(server, THERMOMETER, RECORD)).status == 201


async def test_record_is_answered_as_by_the_replaced_server_when_it_is_valid(
    server: Server, database: Database
) -> None:
    before = datetime.now(ZoneInfo("America/Sao_Paulo"))
    answer = await send(server, THERMOMETER, RECORD)
    after = datetime.now(ZoneInfo("America/Sao_Paulo"))
    assert (answer.status, answer.content_type) == (201, "application/json")
    assert list(answer.body) == [
        "id",
        "temperature",
        "humidity",
        "pressure",
        "date_recorded",
        "time_recorded",
        "sensor_id",
        "client_ip",
    ]
    recorded = datetime.fromisoformat(f"{answer.body['date_recorded']}T{answer.body['time_recorded']}-03:00")
    assert before.replace(microsecond=0) <= recorded <= after
    assert {name: answer.body[name] for name in (*THERMOMETER, "client_ip")} == {
        **THERMOMETER,
        "client_ip": "127.0.0.1",
    }
    rows = await database.pool.fetch(ROWS_OF_SENSORS, ["sensor_001"])
    assert [(row["metric"], row["value"]) for row in rows] == [
        ("humidity", 60.2),
        ("pressure", 1012.5),
        ("temperature", 25.5),
    ]


async def test_records_get_increasing_ids_and_additional_numbers_become_metrics(
    server: Server, database: Database
) -> None:
    answers = [await send(server, {**THERMOMETER, "concentration": number, "name": "x"}, RECORD) for number in range(5)]
    ids = [answer.body["id"] for answer in answers]
    assert ids == sorted(set(ids))
    assert ids[0] > 0
    assert all("concentration" not in answer.body for answer in answers)
    rows = await database.pool.fetch(ROWS_OF_SENSORS, ["sensor_001"])
    assert [row["value"] for row in rows if row["metric"] == "concentration"] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert {row["metric"] for row in rows} == {"temperature", "humidity", "pressure", "concentration"}


async def test_record_has_the_date_and_time_of_the_configured_zone(database: Database) -> None:
    zone = Settings(database_url=database.dsn, api_key=API_KEY, legacy_timezone="Pacific/Kiritimati")
    async with running_server(zone) as server:
        answer = await send(server, THERMOMETER, RECORD)
    local = datetime.now(ZoneInfo("Pacific/Kiritimati"))
    recorded = datetime.fromisoformat(f"{answer.body['date_recorded']}T{answer.body['time_recorded']}+14:00")
    assert 0 <= (local - recorded).total_seconds() < 60


async def test_record_is_refused_as_by_the_replaced_server(server: Server) -> None:
    unauthorized = {"detail": "Invalid or missing API Key."}
    for key in ("", "wrong"):
        answer = await send(server, THERMOMETER, RECORD, X_API_Key=key)
        assert (answer.status, answer.body) == (401, unauthorized)
    assert (await send(server, THERMOMETER, RECORD, X_API_Key=API_KEY_WS)).status == 403
    missing = {name: value for name, value in THERMOMETER.items() if name != "humidity"}
    answer = await send(server, missing, RECORD)
    assert (answer.status, answer.body) == (
        422,
        {"detail": [{"type": "missing", "loc": ["body", "humidity"], "msg": "Field required"}]},
    )
    for body in (
        b"",
        b"[]",
        b'"\xff"',
        b"[" * 100_000,
        {**THERMOMETER, "temperature": None},
        {**THERMOMETER, "sensor_id": 1},
    ):
        answer = await send(server, body, RECORD)
        assert answer.status == 422
        assert [sorted(problem) for problem in answer.body["detail"]] == [["loc", "msg", "type"]]
    answer = await send(server, b" " * (16 * 2**20 + 1), RECORD)
    assert (answer.status, answer.body) == (
        413,
        {"detail": "The body is larger than 256 KiB as sent; send smaller batches"},
    )


async def test_record_is_stored_when_it_is_compressed_and_has_a_bearer_key(server: Server) -> None:
    body = gzip.compress(msgspec.json.encode(THERMOMETER))
    headers = {"Content_Encoding": "gzip", "X_API_Key": "", "Authorization": f"Bearer {API_KEY}"}
    assert (await send(server, body, RECORD, **headers)).status == 201


def _random_reading(random: Random, run: int) -> dict[str, Any]:
    """Return a reading of one of a few sensors and times; its values and tags depend only on these two."""
    sensor, time_ms = random.randrange(3), NOW_MS - random.choice((0, 86_400_000)) - random.randrange(100) * 250
    mixed = Random(sensor * 10**15 + time_ms)
    metrics = mixed.sample(["t", "h", "p"], mixed.randint(1, 3))
    return {
        "sensor": f"run {run} pi{sensor}",
        "time": time_ms,
        "values": {metric: mixed.choice((mixed.gauss(0, 1), mixed.randrange(100))) for metric in metrics},
        **({"tags": {"site": mixed.choice("abc")}} if mixed.random() < 0.3 else {}),
    }


def _gateway_of(item: dict[str, Any]) -> str:
    return "xyz"[item["time"] // 250 % 3]


async def _send_by_gateway(server: Server, random: Random, batch: list[dict[str, Any]]) -> list[Answer]:
    """Send a batch with one request for each gateway, in random encodings and formats of time."""
    answers = []
    for gateway in random.sample("xyz", 3):
        readings = [
            {**item, "time": rfc3339(item["time"] * 1_000)} if random.random() < 0.5 else item
            for item in batch
            if _gateway_of(item) == gateway
        ]
        if readings:
            encode, headers = random.choice(list(ENCODINGS.values()))
            answers.append(await send(server, encode({"gateway": gateway, "readings": readings}), **headers))
    return answers


async def _check_stored(database: Database, unique: list[dict[str, Any]]) -> None:
    """Check the stored rows, states, tags and gateways against a simple computation from the readings."""
    names = sorted({item["sensor"] for item in unique})
    rows = sorted(
        (item["sensor"], metric, item["time"] * 1_000, float(value))
        for item in unique
        for metric, value in item["values"].items()
    )
    assert [tuple(row) for row in await database.pool.fetch(ROWS_OF_SENSORS, names)] == rows
    states = {(name, metric): (name, metric, us, value) for name, metric, us, value in rows}
    assert [tuple(row) for row in await database.pool.fetch(STATES_OF_SENSORS, names)] == list(states.values())
    for row in await database.pool.fetch("SELECT name, tags, gateway FROM sensor WHERE name = ANY($1)", names):
        own = sorted((item for item in unique if item["sensor"] == row["name"]), key=lambda item: int(item["time"]))
        tags = [item["tags"] for item in own if "tags" in item]
        assert (row["tags"], row["gateway"]) == (tags[-1] if tags else {}, _gateway_of(own[-1]))


async def test_uploads_are_stored_when_sensors_are_changed_all_the_time(server: Server, database: Database) -> None:
    async def change() -> None:
        connection = await asyncpg.connect(database.dsn)
        try:
            while True:
                await connection.execute("UPDATE sensor_version SET version = version + 1")
        finally:
            await connection.close()

    changing = asyncio.create_task(change())
    try:
        for number in range(20):
            answer = await send(server, [{"sensor": f"s{number}", "values": {"m": number}}])
            assert (answer.status, answer.body["accepted"]) == (200, 1)
    finally:
        changing.cancel()
        with suppress(asyncio.CancelledError):
            await changing
