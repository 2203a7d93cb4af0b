"""`tidegauge doctor` with different settings and databases."""

import json
from pathlib import Path

import asyncpg
import pytest

from app.commands.doctor import Finding, diagnose
from app.db.migrations import migrate
from app.settings import Settings
from tests.conftest import Database
from tests.processes import free_port, tidegauge


def by_subject(findings: list[Finding]) -> dict[str, tuple[str, str]]:
    return {finding.subject: (finding.state, finding.message) for finding in findings}


async def test_doctor_finds_no_problem_when_everything_works(database: Database) -> None:
    await database.pool.execute("INSERT INTO sensor (name, created_by) VALUES ('a', 'k'), ('b', 'k')")
    found = by_subject(await diagnose(Settings(database_url=database.dsn, api_key="k")))
    assert list(found) == ["keys", "database", "timescaledb", "migrations", "data", "stored keys"]
    assert {state for state, _ in found.values()} == {"ok"}
    assert found["keys"][1] == "API_KEY set"
    assert found["database"][1].startswith("PostgreSQL 1")
    assert found["migrations"][1] == "all applied"
    assert found["data"][1].startswith("2 sensors, ")
    assert found["stored keys"][1] == "0 live"


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


async def test_doctor_notes_warnings_without_calling_them_problems(database: Database) -> None:
    await database.pool.execute("UPDATE aggregates_built SET at = at - INTERVAL '1 year'")
    findings = await diagnose(Settings(database_url=database.dsn))
    warnings = [finding for finding in findings if finding.subject == "warning"]
    assert {finding.state for finding in warnings} == {"note"}
    assert warnings[0].message.startswith(("The rolled-up tables are 525", "TimescaleDB job 1000 (policy_refresh_"))
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


def test_doctor_ends_with_0_when_there_is_no_problem(tmp_path: Path, database: Database) -> None:
    as_table = tidegauge(tmp_path, "doctor", DATABASE_URL=database.dsn)
    assert as_table.code == 0
    assert "all applied" in as_table.out
    as_json = tidegauge(tmp_path, "doctor", "--json", DATABASE_URL=database.dsn)
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
