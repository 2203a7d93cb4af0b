"""The warnings that follow from the state of the work."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from app.db.edition import detect_edition
from app.health.work import Work, list_work_warnings, read_work
from tests.conftest import Database

WELL = Work(
    has_leader=True,
    evaluated_at=datetime(2026, 1, 31, 8, 0, 5, tzinfo=UTC),
    evaluated_ago_s=30.0,
    worker_warnings=[],
    dirty_rows=100_001,
    dirty_oldest_s=60.0,
    unsent_oldest_s=120.0,
    rule_problems=["a.yml:1: wrong"],
    not_durable=[],
    shared_names=[],
    aggregates=[],
)


def test_no_warning_follows_when_all_is_well_to_the_limit() -> None:
    assert list_work_warnings(WELL) == []


@pytest.mark.parametrize(
    ("changed", "kind", "text"),
    [
        (
            {"shared_names": [["oven", "a", "b"], ["oven", "a", "c"], ["x", "a", "b"], ["y", "a", "b"]]},
            "shared_names",
            (
                "sensors: two gateways send readings under one name: 'oven' by 'a' and 'b', 'oven' by 'a' and 'c', 'x' "
                "by 'a' and 'b', and 1 more; give the key of one a --prefix, or set the owner of a sensor that has "
                "moved"
            ),
        ),
        (
            {"has_leader": False},
            "worker_missing",
            "worker: none runs, so rules are not evaluated and alerts not sent: start `tidegauge work`",
        ),
        (
            {"evaluated_ago_s": 30.1},
            "evaluation_stopped",
            "rules: nobody has evaluated them since 2026-01-31 08:00:05 UTC",
        ),
        (
            {"dirty_oldest_s": 60.1},
            "evaluation_behind",
            "rules: over 100,000 flushes wait to be evaluated, the oldest for 60 s",
        ),
        (
            {"dirty_oldest_s": 75, "dirty_rows": 100_000},
            "evaluation_behind",
            "rules: 100,000 flushes wait to be evaluated, the oldest for 75 s",
        ),
        (
            {"unsent_oldest_s": 120.6},
            "messages_waiting",
            (
                "messages: the oldest unsent alert message is due for 121 s; "
                "/api/v1/notifications/outbox lists it with the errors"
            ),
        ),
        (
            {"not_durable": ["fsync"]},
            "not_durable",
            "database: fsync is off, so readings that were acknowledged are lost when it crashes",
        ),
        (
            {"not_durable": ["fsync", "synchronous_commit"]},
            "not_durable",
            (
                "database: fsync and synchronous_commit are off, so readings that were acknowledged are lost when it "
                "crashes"
            ),
        ),
        ({"aggregates": ["TimescaleDB job 1 fails"]}, "aggregates_behind", "TimescaleDB job 1 fails"),
        ({"worker_warnings": ["worker: job x failed"]}, "worker_reports", "worker: job x failed"),
    ],
)
def test_a_warning_follows_when_something_needs_attention(changed: dict[str, Any], kind: str, text: str) -> None:
    (warning,) = list_work_warnings(msgspec.structs.replace(WELL, **changed))
    assert (warning.kind, warning.text) == (kind, text)


async def test_work_is_read_from_the_database(database: Database) -> None:
    pool = database.pool
    await pool.execute(
        "INSERT INTO dirty (series_ids, from_times, to_times, late, at)"
        " SELECT '{1}', '{2026-01-01Z}', '{2026-01-01Z}', true, now() - n * INTERVAL '10 seconds'"
        "   FROM generate_series(3, 1, -1) AS n"
    )
    await pool.execute(
        "INSERT INTO notification (channel, group_key, due_at, state)"
        " VALUES ('duty', 'a', now() - INTERVAL '200 seconds', 'waiting'),"
        "        ('duty', 'b', now() - INTERVAL '900 seconds', 'sent')"
    )
    await pool.execute("UPDATE worker_status SET warnings = '[\"w\"]', evaluated_at = now() - INTERVAL '70 seconds'")
    await pool.execute("INSERT INTO rule_problem (position, message) VALUES (2, 'later'), (1, 'first')")
    async with pool.acquire() as connection:
        await connection.execute("SET tidegauge.may_lose_readings = 'off'; SET synchronous_commit = 'off'")
        edition = await detect_edition(connection)
        work = await read_work(connection, edition)
        await connection.execute("SET tidegauge.may_lose_readings = 'on'")
        accepted = await read_work(connection, edition)
        await connection.execute("RESET tidegauge.may_lose_readings; RESET synchronous_commit")
    assert (work.has_leader, work.dirty_rows, work.worker_warnings) == (False, 3, ["w"])
    assert work.rule_problems == ["first", "later"]
    assert 30 <= work.dirty_oldest_s < 60
    assert 70 <= work.evaluated_ago_s < 100
    assert 200 <= work.unsent_oldest_s < 230
    assert "synchronous_commit" in work.not_durable
    assert accepted.not_durable == []
