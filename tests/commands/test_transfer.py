"""`tidegauge export` and `tidegauge import`, run in separate processes."""

import asyncio
import csv
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import asyncpg
import msgspec
import pytest

from app.db.aggregates import refresh_late_days, roll_up
from app.db.edition import detect_edition
from app.db.pool import Pool, open_pool
from tests.conftest import Database, copied, project_folder, wait_until
from tests.db.aggregate_checks import check_aggregates
from tests.processes import tidegauge
from tests.trends.storage import store_series

SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)
EARLIER, LATER = "2026-01-01T00:00:00", "2026-02-01T00:00:00"
NAMES = ['a,b "c"', "Pegelstände", "水位 😀", "=1+1", "it's", "plain"]
STORED = """
SELECT sensor.name, series.metric, reading.time, reading.value
  FROM reading JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id
 WHERE reading.time > '-infinity' ORDER BY 3, 1, 2
"""
AGGREGATED = """
SELECT sensor.name, series.metric, bucket, n, round(sum::numeric, 6), min, max, first, last
  FROM {relation} JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id ORDER BY 3, 1, 2
"""


def at(days_ago: int, second: int = 0) -> datetime:
    """Return a time at 08:00 UTC some days ago."""
    today = datetime.now(UTC).replace(hour=8, minute=0, second=0, microsecond=0)
    return today - days_ago * DAY + second * SECOND


async def run(folder: Path, *arguments: str, dsn: str) -> tuple[int | None, str, str]:
    """Run a command and return its exit code, standard output and standard error."""
    ran = await asyncio.to_thread(tidegauge, folder, *arguments, DATABASE_URL=dsn)
    return ran.code, ran.out, ran.err


async def refresh_aggregates(pool: Pool) -> None:
    """Do what the process with the lease does."""
    async with pool.acquire() as connection:
        if await detect_edition(connection) == "apache-2":
            await roll_up(connection)
        await refresh_late_days(connection, datetime.now(UTC))


async def test_readings_and_aggregates_are_the_same_when_exported_and_imported_elsewhere(
    database: Database, server_dsn: str, template: str, tmp_path: Path
) -> None:
    random = Random(5)
    for name in NAMES:
        for metric in ("t", "relative humidity, %"):
            times = {at(40) + timedelta(microseconds=random.randrange(35 * 86_400 * 10**6)) for _ in range(40)}
            values = [random.choice([random.gauss(0, 1), 0.1 + 0.2, 0.0, 1e100, 5e-324, 7]) for _ in times]
            await store_series(database.pool, name, metric, zip(sorted(times), values, strict=True))
    code, out, err = await run(tmp_path, "export", "--output", "all.csv", dsn=database.dsn)
    assert (code, out, err) == (0, "480 values in all.csv\n", "")
    assert not list(tmp_path.glob("*.part"))
    async with copied(server_dsn, template) as dsn:
        code, out, err = await run(tmp_path, "import", "all.csv", dsn=dsn)
        assert (code, out, err) == (0, "accepted 480, duplicates 0, rejected 0\n", "")
        code, out, _ = await run(tmp_path, "export", dsn=dsn)
        assert out == (tmp_path / "all.csv").read_text()
        other = await open_pool(dsn, min_size=1, max_size=2)
        try:
            assert await other.fetch(STORED) == await database.pool.fetch(STORED)
            await refresh_aggregates(database.pool)
            await refresh_aggregates(other)
            for relation in ("reading_1m", "reading_1h", "reading_1d"):
                query = AGGREGATED.format(relation=relation)
                assert await other.fetch(query) == await database.pool.fetch(query)
        finally:
            other.terminate()


async def test_export_writes_what_is_chosen_in_order_of_time_sensor_and_metric(
    database: Database, tmp_path: Path
) -> None:
    for name, metric, second in (("b", "t", 0), ("a", "t", 0), ("a", "h", 0), ("a", "t2", 1), ("ab", "t", 90_000)):
        await store_series(database.pool, name, metric, [(at(5, second), second + 0.5)])
    await database.pool.execute("UPDATE series SET unit = '°C' WHERE metric = 't'")
    day, next_day = f"{at(5):%Y-%m-%d}", f"{at(4):%Y-%m-%d}"
    lines = [
        f"a,{day}T08:00:00Z,h,0.5",
        f"a,{day}T08:00:00Z,t,0.5",
        f"b,{day}T08:00:00Z,t,0.5",
        f"a,{day}T08:00:01Z,t2,1.5",
        f"ab,{next_day}T09:00:00Z,t,90000.5",
    ]
    for arguments, chosen in (
        ((), lines),
        (("--sensor", "a*"), [lines[0], lines[1], lines[3], lines[4]]),
        (("--sensor", "b", "--sensor", "ab", "--metric", "t"), [lines[2], lines[4]]),
        (("--metric", "t?", "--output", "-"), [lines[3]]),
        (("--from", f"{day}T08:00:01Z"), lines[3:]),
        (("--to", f"{day}T08:00:01Z"), lines[:3]),
        (("--from", "-1d"), []),
    ):
        code, out, err = await run(tmp_path, "export", *arguments, dsn=database.dsn)
        assert (code, out.splitlines(), err) == (0, ["sensor,time,metric,value", *chosen], ""), arguments
    _, out, _ = await run(tmp_path, "export", "--unit", "--sensor", "a", "--metric", "[th]", dsn=database.dsn)
    assert out == ""
    _, out, _ = await run(tmp_path, "export", "--unit", "--sensor", "b", dsn=database.dsn)
    assert out == f"sensor,time,metric,value,unit\nb,{day}T08:00:00Z,t,0.5,°C\n"


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (
            ["export", "--sensor", "x*", "--metric", "y"],
            "Not found: No series has sensor 'x*' and metric 'y'; * stands for any text",
        ),
        (["export"], "Not found: No series is stored yet"),
        (["export", "--from", "1h"], "Invalid request: --from is '1h'; times before now begin with a minus: \"-1h\""),
        (
            ["export", "--from", f"{LATER}Z", "--to", f"{EARLIER}Z"],
            f"Invalid request: --from is {LATER}+00:00 and --to is {EARLIER}+00:00; --from must be earlier",
        ),
        (
            ["import", "table.csv"],
            "The file cannot be imported: The columns are separated by ';'; separate them by commas",
        ),
    ],
)
async def test_command_is_refused_in_one_line_when_it_cannot_be_done(
    database: Database, tmp_path: Path, arguments: list[str], refusal: str
) -> None:
    (tmp_path / "table.csv").write_text("sensor;time;metric;value\n")
    code, out, err = await run(tmp_path, *arguments, dsn=database.dsn)
    assert (code, out, err) == (1, "", f"{refusal}\n")


async def test_export_leaves_the_old_file_when_it_fails(database: Database, tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text("old")
    code, _, _ = await run(tmp_path, "export", "--sensor", "nothing", "--output", "all.csv", dsn=database.dsn)
    assert (code, (tmp_path / "all.csv").read_text()) == (1, "old")
    assert not list(tmp_path.glob("*.part"))


async def test_export_follows_a_link_and_leaves_devices_and_pipes_in_place(database: Database, tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target.csv", tmp_path / "link.csv", tmp_path / "pipe"
    target.write_text("old")
    await store_series(database.pool, "a", "t", [(at(5), 0.5)])
    content = f"sensor,time,metric,value\na,{at(5):%Y-%m-%d}T08:00:00Z,t,0.5\n"
    link.symlink_to(target)
    os.mkfifo(pipe)
    assert tidegauge(tmp_path, "export", "--output", "link.csv", DATABASE_URL=database.dsn).code == 0
    assert link.is_symlink()
    assert target.read_text() == content
    reading = asyncio.create_task(asyncio.to_thread(pipe.read_text))
    ran = await asyncio.to_thread(tidegauge, tmp_path, "export", "--output", "pipe", DATABASE_URL=database.dsn)
    assert (ran.code, await reading) == (0, content)
    assert pipe.is_fifo()
    refusal = tidegauge(tmp_path, "import", "pipe", DATABASE_URL=database.dsn).refusal
    assert refusal == (
        "The file cannot be imported: pipe is not a regular file; save its contents to one, so that the import can be "
        "resumed"
    )


async def test_export_ends_with_one_line_when_its_reader_ends(database: Database, tmp_path: Path) -> None:
    await store_series(database.pool, "a", "t", [(at(3, n), n) for n in range(20_000)])
    process = await start(tmp_path, "export", dsn=database.dsn, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"sensor,time,metric,value\n"
    process.stdout._transport.close()  # type: ignore[attr-defined]
    _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (
        1,
        "The output cannot be written: the program that reads it has ended\n",
    )


async def test_import_ends_with_1_and_names_the_file_of_rejected_rows_when_some_are_bad(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "readings.csv").write_text(f"sensor,time,metric,value\na,{at(3).isoformat()},t,1\na,soon,t,1\n")
    code, out, err = await run(tmp_path, "import", "readings.csv", dsn=database.dsn)
    assert (code, out, err) == (1, "accepted 1, duplicates 0, rejected 1: see readings.rejected.csv\n", "")
    code, out, _ = await run(tmp_path, "import", "--json", "readings.csv", dsn=database.dsn)
    assert (code, msgspec.json.decode(out)) == (
        1,
        {
            "accepted": 0,
            "duplicates": 1,
            "rejected": 1,
            "rejected_file": "readings.rejected.csv",
            "resumed_at_line": None,
        },
    )
    with (tmp_path / "readings.rejected.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["line", "code", "message", "row"],
            [
                "3",
                "time_invalid",
                "time is 'soon'; write RFC 3339 with a zone, such as 2026-01-31T08:00:00Z, or milliseconds since 1970",
                "a,soon,t,1",
            ],
        ]


async def test_import_goes_on_and_stores_each_row_once_when_it_was_killed(database: Database, tmp_path: Path) -> None:
    rows = [(f"s{n % 10}", at(4, n // 10), n / 10) for n in range(30_000)]
    text = "".join(
        f"{sensor},{time.isoformat()},t,{value if number % 1_000 else 'bad'}\n"
        for number, (sensor, time, value) in enumerate(rows)
    )
    (tmp_path / "readings.csv").write_text(f"sensor,time,metric,value\n{text}")
    # A reading of the last lines that is not committed yet: the import waits for it, so it cannot come to the end.
    series_id = await store_series(database.pool, "s9", "t", [rows[9][1:]])
    blocker = await asyncpg.connect(database.dsn)
    try:
        blocking = blocker.transaction()
        await blocking.start()
        await blocker.execute("INSERT INTO reading VALUES ($1, $2, 0)", series_id, rows[-1][1])
        process = await start(tmp_path, "import", "readings.csv", dsn=database.dsn)
        progress = tmp_path / "readings.progress.json"
        await wait_until(lambda: progress.exists() or process.returncode is not None)
        process.send_signal(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        await blocking.rollback()
    finally:
        await blocker.close()
    stored = await database.pool.fetchval("SELECT count(*) FROM reading WHERE time > '-infinity'")
    assert 1 < stored < 29_970
    line = msgspec.json.decode(progress.read_bytes())["line"] + 1
    code, out, err = await run(tmp_path, "import", "--json", "readings.csv", dsn=database.dsn)
    assert code == 1
    assert err.startswith(f"going on at line {line:,}, after ")
    summary = msgspec.json.decode(out)
    assert (summary["accepted"] + summary["duplicates"], summary["rejected"]) == (29_970, 30)
    assert summary["resumed_at_line"] == line > 2
    assert not progress.exists()
    assert [tuple(row) for row in await database.pool.fetch(STORED)] == [
        (sensor, "t", time, value) for number, (sensor, time, value) in enumerate(rows) if number % 1_000
    ]
    with (tmp_path / "readings.rejected.csv").open(newline="") as file:
        assert [row["line"] for row in csv.DictReader(file)] == [str(n + 2) for n in range(0, 30_000, 1_000)]
    await refresh_aggregates(database.pool)
    async with database.pool.acquire() as connection:
        await check_aggregates(connection)


async def start(
    folder: Path, *arguments: str, dsn: str, stdout: int | None = asyncio.subprocess.DEVNULL
) -> asyncio.subprocess.Process:
    """Start a command without waiting for its end."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(project_folder()), "DATABASE_URL": dsn}
    command = (sys.executable, "-m", "app", *arguments)
    return await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environ, stdout=stdout, stderr=asyncio.subprocess.PIPE
    )
