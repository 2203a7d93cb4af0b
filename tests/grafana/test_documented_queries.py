"""The example queries of docs/grafana.md, run as the role that Grafana uses."""

import re

import asyncpg

from tests.conftest import Database
from tests.grafana import seed
from tests.grafana.dashboards import PATHS, ROOT, load

TEXT = (ROOT / "docs" / "grafana.md").read_text(encoding="utf-8")


async def test_example_queries_run_when_copied_from_the_page(database: Database) -> None:
    await seed.store(database.pool)
    (examples,) = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)
    reader = await asyncpg.connect(database.reader_dsn)
    try:
        for statement in examples.split(";\n")[:-1]:
            await reader.fetch(statement)
    finally:
        await reader.close()


async def test_page_names_every_column_of_every_view_when_read(database: Database) -> None:
    documented = {
        name: {column.strip() for column in re.sub(r"\([^)]*\)|;.*", "", columns).split(",")}
        for names, columns in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| [^|]+ \| ([^|]+) \|$", TEXT, re.MULTILINE)
        for name in re.findall(r"\w+", names)
    }
    rows = await database.pool.fetch(
        "SELECT table_name, array_agg(column_name::text) AS columns FROM information_schema.columns "
        "WHERE table_name ~ '_view$|^reading_1[mhd]$' AND table_schema = 'public' GROUP BY table_name"
    )
    assert documented == {row["table_name"]: set(row["columns"]) for row in rows}


def test_page_names_every_dashboard_when_read() -> None:
    assert set(re.findall(r"`(tidegauge-[a-z-]+)`", TEXT)) == {load(path)["uid"] for path in PATHS}
