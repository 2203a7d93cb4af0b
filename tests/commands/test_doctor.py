"""`tidegauge doctor` with different settings and databases."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from app.clock import SECOND_US, rfc3339, to_us
from app.commands.doctor import Finding, diagnose
from app.db.lease import Lease
from app.db.migrations import migrate
from app.db.rights import ensure_rights
from app.settings import Settings
from app.tasks import supervised
from tests.conftest import Database, project_folder
from tests.ports import free_port
from tests.processes import tidegauge
from tests.sensors.test_routes import OPEN_ALERT

#: The subjects in the order of the findings, when nothing is wrong.
SUBJECTS = [
    *("keys", "database", "timescaledb", "migrations", "data", "stored keys", "rights"),
    *("rules", "evaluator", "channels", "gateways", "clocks", "uploads", "sensors"),
]


def by_subject(findings: list[Finding]) -> dict[str, tuple[str, str]]:
    return {finding.subject: (finding.state, finding.message) for finding in findings}


@asynccontextmanager
async def evaluated(database: Database) -> AsyncIterator[None]:
    """Hold the lease of the process that evaluates rules until the block ends."""
    lease = Lease(database.dsn)
    async with supervised({"lease": lease.keep}):
        await lease.tried.wait()
        yield


async def test_doctor_finds_no_problem_when_everything_works(database: Database) -> None:
    await database.pool.execute("INSERT INTO sensor (name, created_by) VALUES ('a', 'k'), ('b', 'k')")
    async with database.pool.acquire() as connection:
        await ensure_rights(connection)  # a copy of a database lacks the rights on the database itself
    async with evaluated(database):
        found = by_subject(await diagnose(Settings(database_url=database.dsn, api_key="k")))
    found.pop("warning", None)  # the jobs of a Community server may fail
    assert list(found) == SUBJECTS
    assert {state for state, _ in found.values()} == {"ok"}
    assert found["keys"][1] == "API_KEY set"
    assert found["database"][1].startswith("PostgreSQL 1")
    assert found["migrations"][1] == "all applied"
    assert found["data"][1].startswith("2 sensors, ")
    assert found["stored keys"][1] == "0 live"
    assert found["rules"][1].endswith(" rules, 0 channels")
    assert found["evaluator"][1] == "a process evaluates rules; 0 rows of dirty to evaluate"
    assert found["channels"][1] == "none is broken, no dead letters"
    assert found["gateways"][1] == "0 report"
    assert found["clocks"][1] == "none is over 60 s ahead"
    assert found["sensors"][1] == "0 of 2 silent, 0 with an open alert"


async def test_doctor_explains_the_edition(database: Database) -> None:
    _, message = by_subject(await diagnose(Settings(database_url=database.dsn)))["timescaledb"]
    assert ("community: continuous aggregates" in message) != ("apache-2: rolled-up tables" in message)


async def test_doctor_notes_missing_keys_and_names_those_that_are_set(database: Database) -> None:
    found = by_subject(await diagnose(Settings(database_url=database.dsn)))
    assert found["keys"][0] == "note"
    found = by_subject(await diagnose(Settings(database_url=database.dsn, api_key="k", api_key_ws="w")))
    assert found["keys"] == ("ok", "API_KEY and API_KEY_WS set")


async def test_doctor_recommends_migrate_when_the_extension_is_missing(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute("DROP EXTENSION IF EXISTS timescaledb")
    await connection.close()
    found = by_subject(await diagnose(Settings(database_url=empty_dsn)))
    assert found["timescaledb"] == ("problem", "not created here yet; run `tidegauge migrate`")


async def test_doctor_recommends_migrate_when_migrations_are_pending(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    await connection.close()
    state, message = by_subject(await diagnose(Settings(database_url=empty_dsn)))["migrations"]
    assert state == "problem"
    assert message.startswith("0001_readings.sql, 0002_feed.sql, ")
    assert message.endswith(" pending; run `tidegauge migrate`")
    await migrate(empty_dsn)
    assert by_subject(await diagnose(Settings(database_url=empty_dsn)))["migrations"][0] == "ok"


async def test_doctor_reports_a_problem_when_the_database_only_reads(database: Database) -> None:
    name = await database.pool.fetchval("SELECT current_database()")
    await database.pool.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    state, message = by_subject(await diagnose(Settings(database_url=database.dsn)))["database"]
    assert state == "problem"
    assert message.endswith(" only reads: it is a standby, or default_transaction_read_only is on")


async def test_doctor_notes_that_the_replica_is_away(database: Database) -> None:
    away = f"postgresql://me:hidden-one@127.0.0.1:{free_port()}/x"
    async with evaluated(database):
        found = by_subject(await diagnose(Settings(database_url=database.dsn, read_database_url=away)))
        state, message = found["replica"]
        assert (state, "hidden-one" in message) == ("note", False)
        assert message.startswith("that at READ_DATABASE_URL does not answer (")
        found = by_subject(await diagnose(Settings(database_url=database.dsn, read_database_url=database.dsn)))
        assert found["replica"] == ("ok", "answers")


async def test_doctor_notes_that_readings_may_be_lost_and_since_when_nobody_evaluates(database: Database) -> None:
    name = await database.pool.fetchval("SELECT current_database()")
    await database.pool.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    await database.pool.execute(f'ALTER DATABASE "{name}" SET tidegauge.may_lose_readings = off')
    await database.pool.execute("UPDATE worker_status SET evaluated_at = '2026-01-31T08:00:05Z'")
    notes = await messages(database, "warning")
    assert ("note", "rules: nobody has evaluated them since 2026-01-31 08:00:05 UTC") in notes
    assert any("synchronous_commit" in text and "are lost when it crashes" in text for _, text in notes)


async def test_doctor_notes_warnings_without_calling_them_problems(database: Database) -> None:
    await database.pool.execute("UPDATE aggregates_built SET at = at - INTERVAL '1 year'")
    async with evaluated(database):
        findings = await diagnose(Settings(database_url=database.dsn))
    warnings = [finding for finding in findings if finding.subject == "warning"]
    assert {finding.state for finding in warnings} == {"note"}
    behind = ("The rolled-up tables are 525", "TimescaleDB job 1000 (policy_refresh_")
    assert any(warning.message.startswith(behind) for warning in warnings)
    assert "problem" not in {finding.state for finding in findings}


async def test_doctor_reports_a_problem_when_a_migration_was_edited(database: Database) -> None:
    await database.pool.execute("UPDATE schema_migration SET sha256 = 'x' WHERE version = 2")
    state, message = by_subject(await diagnose(Settings(database_url=database.dsn)))["migrations"]
    assert state == "problem"
    assert message.startswith("0002_feed.sql was edited after it was applied")


async def test_doctor_reports_a_problem_when_the_database_does_not_answer() -> None:
    dsn = f"postgresql://me:hidden-one@127.0.0.1:{free_port()}/x"
    state, message = by_subject(await diagnose(Settings(database_url=dsn)))["database"]
    assert state == "problem"
    assert message.startswith("does not answer: ")
    assert "hidden-one" not in message


async def test_doctor_notes_the_missing_database_when_no_embedded_server_runs(tmp_path: Path) -> None:
    found = by_subject(await diagnose(Settings(data_dir=tmp_path)))
    assert found["database"] == (
        "note",
        "DATABASE_URL is not set and no embedded server runs now; `tidegauge up` starts one",
    )


async def test_doctor_checks_the_embedded_server_when_one_runs(tmp_path: Path, database: Database) -> None:
    (tmp_path / "dsn.json").write_text(json.dumps({"dsn": database.dsn}))
    assert by_subject(await diagnose(Settings(data_dir=tmp_path)))["migrations"] == ("ok", "all applied")


# Rules, and what runs and reports


async def messages(database: Database, subject: str, **settings: object) -> list[tuple[str, str]]:
    """Return the states and messages of the findings about a subject."""
    findings = await diagnose(Settings(database_url=database.dsn, **settings))  # type: ignore[arg-type]
    return [(finding.state, finding.message) for finding in findings if finding.subject == subject]


RULE_FILE = """version: 1
channels:
  hook: {type: webhook, url: "http://127.0.0.1:9/"}
rules:
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 30}}
"""


async def test_doctor_counts_rules_and_channels(database: Database, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(RULE_FILE)
    assert await messages(database, "rules", rules_dir=tmp_path) == [("ok", "1 rule, 1 channel")]


@pytest.mark.parametrize("mistakes", [1, 3, 5])
async def test_doctor_reports_three_mistakes_of_the_rules_and_counts_the_rest(
    database: Database, tmp_path: Path, mistakes: int
) -> None:
    for number in range(mistakes):
        (tmp_path / f"{number}.yml").write_text("version: 2\n")
    found = await messages(database, "rules", rules_dir=tmp_path)
    assert {state for state, _ in found} == {"problem"}
    files = [str(tmp_path / f"{number}.yml:1:") for number in range(min(mistakes, 3))]
    assert [message.startswith(file) for (_, message), file in zip(found, files, strict=False)] == [True] * len(files)
    assert [message for _, message in found[3:]] == (["and 2 more: tidegauge check"] if mistakes == 5 else [])


async def test_doctor_checks_rules_when_there_is_no_database(tmp_path: Path) -> None:
    found = by_subject(await diagnose(Settings(data_dir=tmp_path, rules_dir=tmp_path / "none")))
    found.pop("warning", None)  # the jobs of a Community server may fail
    assert list(found) == ["keys", "database", "rules"]
    state, message = found["rules"]
    assert state == "problem"
    assert message.endswith("this folder of rules cannot be read: No such file or directory")


async def test_doctor_finds_that_no_process_evaluates_rules_and_what_waits(database: Database) -> None:
    await database.pool.execute(
        "INSERT INTO dirty (series_ids, from_times, to_times, late)"
        " VALUES ('{1}', '{2026-01-01Z}', '{2026-01-01Z}', true)"
    )
    # Neither the lease of another number counts, nor one whose session has ended.
    async with database.pool.acquire() as connection:
        await connection.execute("INSERT INTO lease (number, session_pid) VALUES (1, -1), (2, pg_backend_pid())")
        expected = "no process evaluates rules: is `tidegauge work` running? 1 row of dirty to evaluate"
        assert await messages(database, "evaluator") == [("problem", expected)]


async def test_doctor_reports_broken_channels_and_notes_dead_letters(database: Database) -> None:
    await database.pool.execute(
        """INSERT INTO channel_state (channel, config_hash, broken_since, reason)
           VALUES ('duty-slack', 'x', '2026-11-20 08:00:00.5Z', 'no_service'),
                  ('ops', 'x', '2026-11-21Z', 'the token is [revoked]')"""
    )
    await database.pool.execute(
        """INSERT INTO notification (channel, group_key, state, due_at)
           VALUES ('ops', 'a', 'dead', now()), ('ops', 'b', 'dead', now()), ('ops', 'c', 'failed', now())"""
    )
    assert await messages(database, "channels") == [
        ("problem", "duty-slack is broken since 2026-11-20T08:00:00Z: no_service"),
        ("problem", "ops is broken since 2026-11-21T00:00:00Z: the token is [revoked]"),
        ("note", "2 dead letters: /api/v1/notifications/outbox?state=dead"),
    ]


async def insert_gateways(database: Database, names: list[str], silent_for: timedelta) -> None:
    """Store a gateway for each name, which uploaded one sensor's reading so long ago."""
    uploaded_at = datetime.now(UTC) - silent_for
    await database.pool.execute("UPDATE ingest_state SET since = '2000-01-01', beat_at = 'infinity'")
    for name in names:
        await database.pool.execute(
            """WITH new_sensor AS (INSERT INTO sensor (name, created_by, gateway) VALUES ($1, 'k', $1) RETURNING id),
                    new_series AS (INSERT INTO series (sensor_id, metric) SELECT id, 'm' FROM new_sensor RETURNING id),
                    new_state AS (INSERT INTO series_state SELECT id, $2, 1, $2 FROM new_series)
               INSERT INTO gateway (api_key, name, first_upload_at, last_upload_at) VALUES ('k', $1, $2, $2)""",
            name,
            uploaded_at,
        )


async def test_doctor_names_gateways_that_are_offline_and_counts_silent_sensors(database: Database) -> None:
    await insert_gateways(database, ["harbour-1", "harbour-2"], timedelta(seconds=1))
    assert await messages(database, "gateways") == [("ok", "2 report")]
    await insert_gateways(database, ["roof"], timedelta(hours=1))
    at = to_us(await database.pool.fetchval("SELECT last_upload_at FROM gateway WHERE name = 'roof'"))
    last = rfc3339(at // SECOND_US * SECOND_US)
    assert await messages(database, "gateways") == [("note", f"offline: roof (last upload {last})")]
    assert await messages(database, "sensors") == [("note", "1 of 3 silent, 0 with an open alert")]
    await insert_gateways(database, ["a", "b", "c", "d"], timedelta(hours=1))
    ((_, message),) = await messages(database, "gateways")
    assert message.startswith("offline: a (last upload ")
    assert message.endswith(") and 2 more")


async def test_doctor_counts_sensors_with_an_alert_apart_and_leaves_retired_ones_out(database: Database) -> None:
    await insert_gateways(database, ["cellar", "oven", "roof"], timedelta(hours=1))
    await database.pool.execute("UPDATE sensor SET retired_at = now() WHERE name = 'roof'")
    await database.pool.execute(OPEN_ALERT, "oven", "silence", "no_data", "warning", None)
    assert await messages(database, "sensors") == [("note", "1 of 2 silent, 1 with an open alert")]


async def test_doctor_notes_clocks_that_are_over_a_minute_ahead_by_the_newest_upload(database: Database) -> None:
    await insert_gateways(database, [*"abcdefg"], timedelta(seconds=1))
    await database.pool.execute("UPDATE gateway SET skew_s = -60 WHERE name IN ('a', 'b')")
    await database.pool.execute("UPDATE gateway SET skew_s = -90.4 WHERE name = 'g'")
    # An upload with another key came later, with the right time.
    await database.pool.execute(
        "INSERT INTO gateway (api_key, name, first_upload_at, last_upload_at, skew_s)"
        " VALUES ('old', 'a', '2026-01-01Z', '2026-01-01Z', -500)"
    )
    assert await messages(database, "clocks") == [("note", "the clock of g is 90 s ahead")]
    await database.pool.execute("UPDATE gateway SET skew_s = -120 WHERE name > 'b'")
    assert [message for _, message in await messages(database, "clocks")] == [
        *(f"the clock of {name} is 2 min ahead" for name in "cde"),
        "and 2 more: /api/v1/gateways",
    ]


# The command


async def test_doctor_ends_with_0_when_there_is_no_problem(tmp_path: Path, database: Database) -> None:
    environ = {"DATABASE_URL": database.dsn, "RULES_DIR": str(project_folder() / "rules")}
    async with evaluated(database):
        as_table = await asyncio.to_thread(tidegauge, tmp_path, "doctor", **environ)
        as_json = await asyncio.to_thread(tidegauge, tmp_path, "doctor", "--json", **environ)
    assert as_table.code == 0
    assert "all applied" in as_table.out
    assert as_json.code == 0
    assert {"state": "ok", "subject": "migrations", "message": "all applied"} in as_json.json


@pytest.mark.parametrize("arguments", [["doctor"], ["doctor", "--json"]], ids=" ".join)
def test_doctor_ends_with_1_when_there_is_a_problem(tmp_path: Path, arguments: list[str]) -> None:
    dsn = f"postgresql://me:hidden-one@127.0.0.1:{free_port()}/x"
    ran = tidegauge(tmp_path, *arguments, DATABASE_URL=dsn)
    assert ran.code == 1
    assert "problem" in ran.out
    assert "hidden-one" not in ran.out + ran.err
    assert ran.err == ""


async def test_doctor_notes_what_is_refused_of_a_gateway_and_what_contradicts(database: Database) -> None:
    await database.pool.execute(
        """INSERT INTO gateway (api_key, name, first_upload_at, last_upload_at, last_taken_at, rejected,
                                rejected_by_code, conflicts)
           VALUES ('k', 'roof', now(), now(), NULL, 5, '{"time_in_future": 3, "value_not_a_number": 2}', 0),
                  ('k', 'quay', now(), now(), now(), 0, '{}', 1),
                  ('k', 'well', now(), now(), now(), 0, '{}', 0)"""
    )
    assert await messages(database, "uploads") == [
        ("note", "quay: 1 value differs from what is stored"),
        ("note", "roof: 5 values refused (3 time_in_future, 2 value_not_a_number), uploads arrive, all refused"),
    ]
