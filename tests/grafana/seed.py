"""A small world with known answers: sensors with awkward names, a year of readings, alerts, gateways, deliveries."""

from datetime import UTC, datetime, time, timedelta

import msgspec

from app.db.aggregates import LEVELS
from app.db.aggregates.sql import SQL
from app.db.edition import detect_edition
from app.db.pool import Connection, Pool

#: Yesterday at noon: within every retention, and all its hours and its day are known.
NOON = datetime.combine(datetime.now(UTC).date() - timedelta(days=1), time(12), tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)

PLAIN = "pi1"
QUOTED = "O'Hara's shed"
BACKSLASH = 'back\\slash "yard"'
DOLLAR = "cost $5 -- $a$ {b} 100%"
GATE = 'gate "2" o\'clock $x'
WATER = 'water\'s "level" $m'

#: sensor, gateway, tags, time since anything arrived
SENSORS: tuple[tuple[str, str | None, dict[str, str], timedelta], ...] = (
    (PLAIN, "gateway-1", {"site": "north"}, MINUTE),
    (QUOTED, "gateway-1", {"site": "O'Hara's"}, 2 * HOUR),
    (BACKSLASH, None, {}, MINUTE),
    (DOLLAR, GATE, {"site": "north", 'room "x"': "$1"}, MINUTE),
)
#: sensor, metric, unit, [(time before noon, value), …]
READINGS = (
    (
        PLAIN,
        "temperature",
        "°C",
        (
            (200 * DAY, 100.0),
            (20 * DAY - 30 * MINUTE, 5.0),
            (7 * DAY + 4 * MINUTE, 3.0),
            (18 * HOUR, -5.0),
            (4 * MINUTE, 10.0),
            (3 * MINUTE, 20.0),
            (3 * MINUTE - timedelta(seconds=30), 40.0),
            (MINUTE, 30.0),
        ),
    ),
    (QUOTED, "temperature", "°C", ((3 * MINUTE - timedelta(seconds=10), 7.0),)),
    (QUOTED, "humidity", "%", ((3 * MINUTE - timedelta(seconds=10), 55.5),)),
    (BACKSLASH, WATER, "m", ((2 * MINUTE, 1.25),)),
    (DOLLAR, "temperature", "°C", ((2 * HOUR, 4.0), (40 * MINUTE, 6.0))),
)
#: sensor, metric, limits as rules say them
LIMITS = (
    (PLAIN, "temperature", [["warm", "warning", "above", 8.0], ["warm", "critical", "above", 25.0]]),
    (DOLLAR, "temperature", [["frost", "error", "below", 2.0], ["warm", "warning", "above", 5.0]]),
)
#: rule, sensor or None, metric or gateway, kind, level, start, end (before noon), reason
EPISODES = (
    ("warm", PLAIN, "temperature", "threshold", "critical", 4 * MINUTE, None, None),
    ("warm", DOLLAR, "temperature", "threshold", "warning", 5 * HOUR, 3 * HOUR, None),
    ("frost", DOLLAR, "temperature", "threshold", "error", 4 * HOUR, 2 * HOUR, None),
    ("warm", QUOTED, "temperature", "threshold", "info", 3 * HOUR, 2 * HOUR, "retracted"),
    ("gateway-offline", None, "gateway-1", "no_data", "critical", 12 * HOUR, 6 * HOUR, None),
    ("gateway-clock", None, GATE, "clock", "warning", 10 * HOUR, 4 * HOUR, None),
)
#: gateway, key, first upload before noon, last upload before now, accepted, duplicates, rejected, skew, lateness
GATEWAYS = (
    ("gateway-1", "farm", 200 * DAY, MINUTE, 90, 10, 0, -2.0, 40.0),
    (GATE, "farm", DAY, HOUR, 50, 0, 50, 400.0, 7200.0),
)
#: channel, state, created before noon, error
DELIVERIES = (
    ("ops", "sent", HOUR, None),
    ("ops", "dead", 2 * HOUR, "chat not found"),
    ("duty", "failed", 3 * HOUR, "timed out after 10 s"),
    ("duty", "waiting", 4 * HOUR, "429, retry after 30 s"),
    ("old", "dead", 300 * DAY, "gone"),
)


async def store(pool: Pool) -> None:
    """Store all of it, and bring the aggregates of the Community edition up to date."""
    async with pool.acquire() as connection:
        async with connection.transaction():
            await _store_sensors(connection)
            await _store_readings(connection)
            await _store_limits(connection)
            await _store_episodes(connection)
            await _store_gateways(connection)
            await _store_deliveries(connection)
        await refresh(connection)


async def store_fleet(pool: Pool, sensors: int, every: timedelta, back: timedelta) -> None:
    """Store many sensors of one gateway with evenly spaced readings up to noon."""
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO sensor (name, gateway, tags, created_by) "
            "SELECT format('fleet-%s', lpad(n::text, 4, '0')), 'fleet', "
            "jsonb_build_object('site', 'hall ' || n % 60), 'test' FROM generate_series(1, $1) AS n",
            sensors,
        )
        await connection.execute(
            "INSERT INTO series (sensor_id, metric, unit, limits) SELECT id, 'temperature', '°C', "
            '\'[["warm", "warning", "above", 20.5]]\' FROM sensor WHERE gateway = \'fleet\''
        )
        await connection.execute(
            "INSERT INTO reading (series_id, time, value) "
            "SELECT series.id, at, 20 + sin(extract(epoch FROM at) / 20000 + series.id) FROM series "
            "JOIN sensor ON sensor.id = sensor_id AND gateway = 'fleet' "
            "CROSS JOIN generate_series($1::timestamptz, $2, $3::interval) AS at",
            NOON - back,
            NOON,
            every,
        )
        await connection.execute(
            "INSERT INTO series_state (series_id, last_time, last_value, received_at) "
            "SELECT series.id, $1, 20, now() FROM series JOIN sensor ON sensor.id = sensor_id AND gateway = 'fleet'",
            NOON,
        )
        await connection.execute(
            "INSERT INTO alert_episode (rule, series_id, started_at, fired_at, resolved_at, steps, level) "
            "SELECT 'warm', series.id, at, at, at + interval '1 hour', '[]', 'warning' FROM series "
            "JOIN sensor ON sensor.id = sensor_id AND gateway = 'fleet' "
            "CROSS JOIN generate_series($1::timestamptz - interval '20 days', $1, interval '3 hours') AS at",
            NOON,
        )
        await refresh(connection)


async def refresh(connection: Connection) -> None:
    """Materialise the continuous aggregates where there are any, as far as policies would."""
    if await detect_edition(connection) == "apache-2":
        return
    # A policy that refreshes at this moment would make the refresh here fail.
    await connection.fetchval("SELECT _timescaledb_functions.stop_background_workers()")
    in_one_go = """, options => '{"buckets_per_batch": 0}'"""
    options = in_one_go if await connection.fetchval(SQL["has_refresh_options"]) else ""
    for level in LEVELS:
        until = level.refreshable_until(datetime.now(UTC)).isoformat()
        await connection.execute(f"CALL refresh_continuous_aggregate('{level.relation}', NULL, '{until}'{options})")


async def _store_sensors(connection: Connection) -> None:
    await connection.executemany(
        "INSERT INTO sensor (name, gateway, tags, expected_interval, created_by) "
        "VALUES ($1, $2, $3::text::jsonb, interval '1 minute', 'test')",
        [(name, gateway, msgspec.json.encode(tags).decode()) for name, gateway, tags, _ in SENSORS],
    )
    await connection.executemany(
        "INSERT INTO series (sensor_id, metric, unit) SELECT id, $2, $3 FROM sensor WHERE name = $1",
        [(sensor, metric, unit) for sensor, metric, unit, _ in READINGS],
    )
    await connection.execute("UPDATE ingest_state SET since = now() - interval '400 days', beat_at = 'infinity'")


async def _store_readings(connection: Connection) -> None:
    await connection.executemany(
        "INSERT INTO reading (series_id, time, value) SELECT series.id, $3, $4 FROM series "
        "JOIN sensor ON sensor.id = sensor_id WHERE name = $1 AND metric = $2",
        [(sensor, metric, NOON - age, value) for sensor, metric, _, samples in READINGS for age, value in samples],
    )
    silences = {name: silence for name, _, _, silence in SENSORS}
    await connection.executemany(
        "INSERT INTO series_state (series_id, last_time, last_value, received_at) "
        "SELECT series.id, $3, $4, now() - $5::interval FROM series "
        "JOIN sensor ON sensor.id = sensor_id WHERE name = $1 AND metric = $2",
        [
            (sensor, metric, NOON - samples[-1][0], samples[-1][1], silences[sensor])
            for sensor, metric, _, samples in READINGS
        ],
    )


async def _store_limits(connection: Connection) -> None:
    await connection.executemany(
        "UPDATE series SET limits = $3::text::jsonb FROM sensor "
        "WHERE sensor.id = sensor_id AND name = $1 AND metric = $2",
        [(sensor, metric, msgspec.json.encode(limits).decode()) for sensor, metric, limits in LIMITS],
    )


async def _store_episodes(connection: Connection) -> None:
    await connection.executemany(
        "INSERT INTO alert_episode (rule, series_id, gateway, kind, level, started_at, fired_at, resolved_at, reason, "
        "steps, threshold, condition, value_kind) "
        "VALUES ($1, (SELECT series.id FROM series JOIN sensor ON sensor.id = sensor_id "
        "WHERE name = $2 AND metric = $3), CASE WHEN $2::text IS NULL THEN $3::text END, $4, $5, $6, $6, $7, $8, '[]', "
        "'8', 'above', 'last')",
        [
            (rule, sensor, where, kind, level, NOON - start, None if end is None else NOON - end, reason)
            for rule, sensor, where, kind, level, start, end, reason in EPISODES
        ],
    )


async def _store_gateways(connection: Connection) -> None:
    await connection.executemany(
        "INSERT INTO gateway (name, api_key, first_upload_at, last_upload_at, uploads, accepted, duplicates, rejected, "
        "skew_s, lateness_s, intervals_s) VALUES ($1, $2, $3, now() - $4::interval, 7, $5, $6, $7, $8, $9, '{60}')",
        [(name, key, NOON - first, *rest) for name, key, first, *rest in GATEWAYS],
    )
    await connection.execute("INSERT INTO late_day (day) VALUES ($1), ($1), ($2)", NOON.date(), (NOON - DAY).date())


async def _store_deliveries(connection: Connection) -> None:
    await connection.executemany(
        "INSERT INTO notification (channel, group_key, state, due_at, created_at, error, attempts) "
        "VALUES ($1, $2, $3, $4, $4, $5, 3)",
        [(channel, state, state, NOON - age, error) for channel, state, age, error in DELIVERIES],
    )
