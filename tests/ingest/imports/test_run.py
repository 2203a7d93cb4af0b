"""Imports into a real database: what is stored, what follows from it, and what people are told."""

import csv
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.db.aggregates import first_safe_day, refresh_late_days, roll_up
from app.db.edition import Edition, detect_edition
from app.ingest.imports import files
from app.ingest.imports.run import Import, ImportSummary
from tests.alerting.conftest import harness  # noqa: F401 -- the fixture
from tests.alerting.harness import WARM, AlertingHarness
from tests.conftest import Database, Server
from tests.db.aggregate_checks import check_aggregates
from tests.sensors.test_routes import silence, states

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STORED = """
SELECT sensor.name, series.metric, reading.time, reading.value
  FROM reading JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id
 WHERE reading.time > '-infinity' ORDER BY 3, 1, 2
"""
#: Tells people when a sensor sends nothing for five minutes.
WATCHED = """
  - name: watched
    sensors: {metric: temperature}
    levels: {warning: {above: 100}}
    no_data: {after: 5m, then: alert}
    notify: [ops]
"""
Rows = Iterable[Sequence[object]]


def write_file(folder: Path, rows: Rows, header: str = "sensor,time,metric,value") -> Path:
    """Write a CSV; datetimes as RFC 3339."""
    path = folder / "readings.csv"
    with path.open("w", newline="") as file:
        file.write(f"{header}\n")
        csv.writer(file).writerows(
            [cell.isoformat() if isinstance(cell, datetime) else cell for cell in row] for row in rows
        )
    return path


async def run_import(path: Path, database: Database, said: list[str] | None = None) -> ImportSummary:
    return await Import(path, database.dsn, lambda done, total: None, (said if said is not None else []).append).run()


async def edition_of(database: Database) -> Edition:
    async with database.pool.acquire() as connection:
        return await detect_edition(connection)


async def refresh_aggregates(database: Database) -> None:
    """Do what the process with the lease does."""
    async with database.pool.acquire() as connection:
        if await detect_edition(connection) == "apache-2":
            await roll_up(connection)
        await refresh_late_days(connection, datetime.now(UTC))


async def test_import_stores_what_an_upload_would_when_rows_are_good_bad_and_doubled(
    database: Database, tmp_path: Path
) -> None:
    at = (datetime.now(UTC) - 40 * DAY).replace(microsecond=7)
    path = write_file(
        tmp_path,
        [
            ("a", at, "t", 0.1),
            ("a", at, "t", 99),
            ("a", at + DAY, "t", "x"),
            ("a", at + DAY, "t", -2e-7),
            ("b", "", "t", 1),
        ],
    )
    assert await run_import(path, database) == ImportSummary(2, 1, 2, str(tmp_path / "readings.rejected.csv"), None)
    assert [tuple(row) for row in await database.pool.fetch(STORED)] == [
        ("a", "t", at, 0.1),
        ("a", "t", at + DAY, -2e-7),
    ]
    with (tmp_path / "readings.rejected.csv").open(newline="") as file:
        assert [row[:2] for row in csv.reader(file)] == [
            ["line", "code"],
            ["4", "value_not_a_number"],
            ["6", "time_invalid"],
        ]
    counts = await database.pool.fetchrow(
        "SELECT (SELECT count(*) FROM dirty) AS dirty, (SELECT sum(n) FROM feed) AS feed, "
        "(SELECT last_value FROM series_state) AS last_value, (SELECT created_by FROM sensor) AS created_by"
    )
    assert tuple(counts or ()) == (1, 2, -2e-7, "import")
    assert await run_import(path, database) == ImportSummary(0, 3, 2, str(tmp_path / "readings.rejected.csv"), None)
    assert not (tmp_path / "readings.progress.json").exists()


async def test_absurd_times_and_cells_over_several_lines_are_rejected_and_the_rest_is_stored(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "readings.csv"
    at = datetime.now(UTC) - DAY
    path.write_text(
        "sensor,time,metric,value\n"
        "a,-62135596800001,t,1\na,-999999999999999,t,1\na,0001-01-01T00:00:00+14:00,t,1\na,1799-12-31T23:59:59Z,t,1\n"
        f'"a\nb",{at.isoformat()},t,2\n'
        f'"a ""quoted"" name",{at.isoformat()},t,3\n'
    )
    summary = await run_import(path, database)
    assert (summary.accepted, summary.rejected) == (1, 6)
    assert [row["name"] for row in await database.pool.fetch(STORED)] == ['a "quoted" name']
    with (tmp_path / "readings.rejected.csv").open(newline="") as file:
        codes = [row[1] for row in csv.reader(file)][1:]
    assert codes == ["time_too_old"] * 4 + ["reading_invalid"] * 2


async def test_import_of_a_wide_file_stores_a_value_for_each_filled_cell(database: Database, tmp_path: Path) -> None:
    at = datetime.now(UTC) - 3 * DAY
    path = write_file(tmp_path, [("a", at, 1, ""), ("b", at, "", 2)], "sensor,time,temperature,humidity")
    assert await run_import(path, database) == ImportSummary(2, 0, 0, None, None)
    assert [tuple(row) for row in await database.pool.fetch(STORED)] == [
        ("a", "temperature", at, 1.0),
        ("b", "humidity", at, 2.0),
    ]


async def test_trends_show_an_import_when_days_are_refreshed(database: Database, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    await run_import(write_file(tmp_path, [("a", now - HOUR / 2, "t", 1)]), database)
    await refresh_aggregates(database)
    rows = [(f"s{n % 3}", now - 90 * DAY + n * 7 * HOUR, "t", n) for n in range(300)]
    assert (await run_import(write_file(tmp_path, rows), database)).accepted == 300
    await refresh_aggregates(database)
    async with database.pool.acquire() as connection:
        await check_aggregates(connection)


async def test_import_goes_on_where_it_was_when_a_block_was_not_stored(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "BLOCK_BYTES", 200)
    at = datetime.now(UTC) - 2 * DAY
    path = write_file(tmp_path, [("a", at + n * MINUTE, "t", n if n % 2 else "bad") for n in range(40)])
    seen: list[int] = []

    def give_up(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Import(path, database.dsn, give_up).run()
    said: list[str] = []
    summary = await run_import(path, database, said)
    assert summary.resumed_at_line is not None
    assert said == [
        f"going on at line {summary.resumed_at_line}, after {100 * seen[-1] // path.stat().st_size} % of the file"
    ]
    assert (summary.accepted + summary.duplicates, summary.rejected) == (20, 20)
    assert await database.pool.fetchval("SELECT count(*) FROM reading WHERE time > '-infinity'") == 20
    with (tmp_path / "readings.rejected.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["line", *(str(n + 2) for n in range(0, 40, 2))]


@pytest.mark.parametrize("changed", ["file", "database"])
async def test_import_starts_at_the_beginning_when_file_or_database_is_another(
    database: Database, tmp_path: Path, changed: str
) -> None:
    at = datetime.now(UTC) - 2 * DAY
    path = write_file(tmp_path, [("a", at, "t", 1)])
    progress = tmp_path / "readings.progress.json"

    def give_up(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await Import(path, database.dsn, give_up).run()
    if changed == "file":
        write_file(tmp_path, [("a", at, "t", 1), ("b", at, "t", 1)])
    else:
        progress.write_text(progress.read_text().replace('"database":"', '"database":"9'))
    said: list[str] = []
    summary = await run_import(path, database, said)
    assert said == ["readings.progress.json is of another file or database: starting from the beginning"]
    assert (summary.duplicates, summary.resumed_at_line) == (1, None)


async def test_old_rows_are_refused_when_the_edition_keeps_no_more(database: Database, tmp_path: Path) -> None:
    if await edition_of(database) != "apache-2":
        pytest.skip("on Community the operator decides how long readings are kept")
    now = datetime.now(UTC)
    path = write_file(tmp_path, [("a", now - 400 * DAY, "t", 1), ("a", now - 398 * DAY, "t", 2)])
    assert (await run_import(path, database)).rejected == 1
    text = (tmp_path / "readings.rejected.csv").read_text()
    assert "time_too_old" in text
    assert "older than the 399 days that are kept; the Apache-2 edition keeps no more" in text


@pytest.mark.parametrize(
    ("policy", "oldest_days"),
    [
        ("SELECT add_retention_policy('reading', INTERVAL '3 years')", 3 * 365 - 2),
        ("SELECT 'no policy'", 2_000),
        (
            "SELECT alter_job(add_retention_policy('reading', INTERVAL '400 days'), scheduled => FALSE)",
            1_500,
        ),
    ],
)
async def test_old_rows_are_stored_and_shown_when_retention_keeps_them(
    database: Database, tmp_path: Path, policy: str, oldest_days: int
) -> None:
    if await edition_of(database) != "community":
        pytest.skip("only on Community can readings be kept for longer")
    await database.pool.execute("SELECT remove_retention_policy('reading')")
    await database.pool.execute(policy)
    now = datetime.now(UTC)
    await run_import(write_file(tmp_path, [("a", now - HOUR, "t", 1)]), database)
    await refresh_aggregates(database)
    rows = [("a", now - days * DAY, "t", days) for days in (oldest_days, 600, 401)]
    assert await run_import(write_file(tmp_path, rows), database) == ImportSummary(3, 0, 0, None, None)
    await refresh_aggregates(database)
    async with database.pool.acquire() as connection:
        await check_aggregates(connection)


async def test_old_aggregates_stay_when_only_part_of_their_readings_is_imported(
    database: Database, tmp_path: Path
) -> None:
    if await edition_of(database) != "community":
        pytest.skip("only on Community can readings be kept for longer")
    now = datetime.now(UTC)
    old = (now - 500 * DAY).replace(hour=12)
    rows = [("a", old + n * MINUTE, "t", n) for n in range(3)]
    await database.pool.execute("SELECT remove_retention_policy('reading')")
    await run_import(write_file(tmp_path, rows), database)
    await refresh_aggregates(database)
    await database.pool.execute("SELECT drop_chunks('reading', older_than => INTERVAL '400 days')")
    for stored, count in ((rows[:1], 3), (rows, 3), ([*rows, ("b", old, "t", 1)], 4)):
        await run_import(write_file(tmp_path, stored), database)
        await refresh_aggregates(database)
        assert await database.pool.fetchval("SELECT sum(n) FROM reading_1d") == count
    assert not await database.pool.fetchval("SELECT count(*) FROM late_day")


async def test_hours_keep_all_readings_when_more_of_a_day_are_imported_after_its_minutes_were_dropped(
    database: Database, tmp_path: Path
) -> None:
    if await edition_of(database) != "community":
        pytest.skip("only on Community can readings be kept for longer")
    await database.pool.execute("SELECT remove_retention_policy('reading')")
    old = (datetime.now(UTC) - 900 * DAY).replace(hour=12, minute=0)
    rows = [(sensor, old + n * MINUTE, "t", n) for sensor in ("a", "b") for n in range(0, 90, 10)]
    await run_import(write_file(tmp_path, rows), database)
    await refresh_aggregates(database)
    await database.pool.execute("SELECT drop_chunks('reading_1m', older_than => INTERVAL '800 days')")
    await run_import(write_file(tmp_path, [("a", old + MINUTE, "t", 5)]), database)
    await refresh_aggregates(database)
    hours = "SELECT array_agg(n::int ORDER BY series_id, bucket) FROM reading_1h"
    assert await database.pool.fetchval(hours) == [7, 3, 6, 3]
    async with database.pool.acquire() as connection:
        await check_aggregates(connection)


def test_first_safe_day_follows_retention() -> None:
    now = datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert first_safe_day(now).isoformat() == "2024-12-28"
    assert first_safe_day(now, 10 * DAY).isoformat() == "2026-01-22"
    assert first_safe_day(now, None).isoformat() == "0001-01-01"


async def test_nobody_is_told_when_a_year_of_history_is_imported(
    harness: AlertingHarness,  # noqa: F811
    database: Database,
    tmp_path: Path,
) -> None:
    await harness.use_rules(WARM + WATCHED)
    await harness.upload("live", (1, 5))
    now = datetime.now(UTC)
    # Alerts that began and ended, one that never ended, history of a sensor that still sends, and a new metric of it.
    rows: list[Sequence[object]] = [
        (sensor, now - days * DAY + minute * MINUTE, "temperature", 20 if minute < 30 else 5)
        for sensor in ("gone", "live")
        for days in range(2, 365, 30)
        for minute in range(0, 60, 10)
    ]
    rows += [("warm for ever", now - 100 * DAY, "temperature", 50), ("live", now - 3 * DAY, "humidity", 50)]
    assert (await run_import(write_file(tmp_path, rows), database)).accepted == len(rows)
    await harness.tick()
    episodes = "SELECT count(*) FROM alert_episode WHERE kind = 'threshold' AND (resolved_at IS NULL) = $1"
    assert [await database.pool.fetchval(episodes, is_open) for is_open in (False, True)] == [26, 1]
    for _ in range(3):
        await harness.advance(4)
        await harness.upload("live", (0, 5))
        await harness.tick()
        await harness.check_no_data()
    assert harness.messages() == []


async def test_people_are_told_when_an_imported_sensor_sends_again_and_is_still_too_warm(
    harness: AlertingHarness,  # noqa: F811
    database: Database,
    tmp_path: Path,
) -> None:
    await harness.use_rules(WARM + WATCHED)
    path = write_file(tmp_path, [("cellar", datetime.now(UTC) - 100 * DAY, "temperature", 50)])
    await run_import(path, database)
    await harness.tick()
    await harness.advance(1)
    assert harness.messages() == []
    await harness.upload("cellar", (0, 50))
    await harness.tick()
    await harness.advance(1)
    assert len(harness.messages()) == 1
    await harness.advance(6)
    await harness.check_no_data()
    await harness.advance(1)
    assert any("cellar" in message for message in harness.messages()[1:])


async def test_missing_data_stay_missing_when_older_history_is_imported(
    harness: AlertingHarness,  # noqa: F811
    database: Database,
    tmp_path: Path,
) -> None:
    await harness.use_rules(WATCHED)
    await harness.upload("cellar", (1, 5))
    await harness.advance(10)
    await harness.check_no_data()
    await harness.advance(1)
    told = harness.messages()
    assert len(told) == 1
    await run_import(write_file(tmp_path, [("cellar", datetime.now(UTC) - 9 * DAY, "temperature", 5)]), database)
    await harness.tick()
    await harness.check_no_data()
    await harness.advance(1)
    assert harness.messages() == told


async def test_missing_data_stay_missing_when_the_gap_is_filled_up_to_two_days_ago(
    harness: AlertingHarness,  # noqa: F811
    database: Database,
    tmp_path: Path,
) -> None:
    await harness.use_rules(WATCHED)
    await harness.upload("cellar", (1, 5))
    await database.pool.execute(
        "UPDATE series_state SET last_time = now() - INTERVAL '5 days', received_at = now() - INTERVAL '119 hours'"
    )
    await harness.advance(10)
    await harness.check_no_data()
    await run_import(write_file(tmp_path, [("cellar", datetime.now(UTC) - 2 * DAY, "temperature", 5)]), database)
    await harness.tick()
    await harness.check_no_data()
    alerts = await database.pool.fetch("SELECT resolved_at, reason FROM alert_episode")
    assert [tuple(row) for row in alerts] == [(None, "no_data")]


async def test_sensor_with_imported_history_alone_is_not_silent(
    server: Server, database: Database, tmp_path: Path
) -> None:
    await server.post_readings([{"sensor": "cellar", "values": {"t": 1}}])
    rows = [("attic", datetime.now(UTC) - 30 * DAY, "t", 1), ("cellar", datetime.now(UTC) - 30 * DAY, "t", 1)]
    await run_import(write_file(tmp_path, rows), database)
    await silence(server, database, 9 * DAY)
    assert await states(server) == {"attic": ("ok", None), "cellar": ("silent", None)}


async def test_first_value_stays_when_the_last_line_alone_repeats_its_reading(
    database: Database, tmp_path: Path
) -> None:
    at = datetime.now(UTC) - 2 * DAY
    rows = [("a", at + timedelta(seconds=n), "t", n) for n in range(6_000)]
    path = write_file(tmp_path, [*rows, ("a", at, "t", 99.0)])
    path.write_bytes(path.read_bytes().rstrip(b"\r\n"))  # so that the last line is a block of its own
    assert path.stat().st_size < 256 * 1024
    assert await run_import(path, database) == ImportSummary(6_000, 1, 0, None, None)
    assert await database.pool.fetchval("SELECT value FROM reading ORDER BY time LIMIT 1") == 0


async def test_upload_and_import_store_each_reading_once_when_a_server_runs(
    server: Server, database: Database, tmp_path: Path
) -> None:
    at = datetime.now(UTC) - 2 * DAY
    rows = [("a", at + n * MINUTE, "t", n) for n in range(600)]
    await server.post_readings(
        [{"sensor": "a", "time": moment.isoformat(), "values": {"t": n}} for _, moment, _, n in rows[50:350]]
    )
    assert await run_import(write_file(tmp_path, rows), database) == ImportSummary(300, 300, 0, None, None)
    page = await server.get("/api/v1/readings", sensor="a", **{"from": "-3d"})
    assert len(page["items"]) == 600  # type: ignore[arg-type]
