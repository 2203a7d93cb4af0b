"""The SQL of the documents: Grafana's as the role that Grafana uses, and the operator's against what stands."""

import re
import secrets
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from app.db.pool import connect
from tests.conftest import Database, Server
from tests.docs.documents import DOCUMENTS, Block, blocks_to_run, rows
from tests.grafana.macros import Choice, View, expand
from tests.sensors.test_routes import OPEN_ALERT

#: Readings of which every query of the document finds some.
READINGS = [
    {"sensor": "cellar", "values": {"temperature": 12.5}, "tags": {"site": "harbour"}},
    {"sensor": "roof", "values": {"temperature": -3.25, "humidity": 61}},
]


def test_every_document_with_queries_has_a_test() -> None:
    assert {block.document for block in blocks_to_run("sql", *DOCUMENTS)} == {"docs/grafana.md", "docs/backup.md"}


@pytest.mark.parametrize("block", blocks_to_run("sql", "docs/grafana.md"), ids=lambda block: str(block.line))
async def test_query_of_grafana_finds_something_as_the_reader(block: Block, server: Server, database: Database) -> None:
    await server.post_readings(READINGS)
    await server.count_silence_from_the_beginning()
    await database.pool.execute("UPDATE series_state SET received_at = now() - INTERVAL '1 hour'")
    await database.pool.execute("UPDATE ingest_state SET since = now() - INTERVAL '1 hour'")
    await database.pool.execute(OPEN_ALERT, "roof", "warm", "threshold", "critical", None)
    now = datetime.now(UTC)
    sql = expand(block.text, View(now - timedelta(days=2), now), {"sensor": Choice(("cellar", "roof"))})
    connection = await asyncpg.connect(database.reader_dsn)
    try:
        assert await connection.fetch(sql), sql
    finally:
        await connection.close()


async def test_relations_of_grafana_have_the_columns_that_are_named(database: Database) -> None:
    connection = await asyncpg.connect(database.reader_dsn)
    try:
        readable = await connection.fetch(
            """SELECT relname, array_agg(attname::text ORDER BY attnum) AS columns
                 FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
                WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0
                  AND has_table_privilege(pg_class.oid, 'SELECT')
                GROUP BY relname"""
        )
    finally:
        await connection.close()
    documented: dict[str, list[str]] = {}
    for relations, columns, _ in rows("docs/grafana.md", "| relation | columns | one row for each |"):
        names = [name.strip("` ") for name in columns.replace(" (jsonb)", "").split(",")]
        documented |= {relation.strip("` "): names for relation in relations.split(",")}
    # `tags_at` and `gateway_at` serve ingest alone.
    own = {"tags_at", "gateway_at"}
    assert documented == {row["relname"]: [name for name in row["columns"] if name not in own] for row in readable}


async def test_backup_makes_the_same_roles_as_the_migration(database: Database) -> None:
    (block,) = blocks_to_run("sql", "docs/backup.md")
    suffix = secrets.token_hex(4)
    query = """SELECT rolcanlogin, rolconnlimit, rolsuper, rolcreaterole, rolcreatedb, rolinherit
                 FROM pg_roles WHERE rolname = $1"""
    connection = await connect(database.dsn)
    try:
        await connection.execute(re.sub(r"tidegauge_\w+", rf"\g<0>_{suffix}", block.text))
        for role in ("tidegauge_app", "tidegauge_reader"):
            made = await connection.fetchrow(query, f"{role}_{suffix}")
            migrated = await connection.fetchrow(query, role)
            await connection.execute(f"DROP ROLE {role}_{suffix}")
            assert made is not None
            assert migrated is not None
            # The tests have given the migrated reader a password.
            assert tuple(made)[1:] == tuple(migrated)[1:]
            assert made["rolcanlogin"] is False
    finally:
        await connection.close()
