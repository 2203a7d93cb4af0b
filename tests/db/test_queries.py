"""Named SQL: parsing, and that every query fits the migrated schema and is used by the code."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from app.db.pool import connect
from app.db.queries import load_queries
from tests.conftest import copied, project_folder

APP = project_folder() / "app"
QUERIES = [
    pytest.param(path, name, id=f"{path.relative_to(APP)}:{name}")
    for path in sorted(APP.rglob("*queries.sql"))
    for name in load_queries(path)
]


@pytest.fixture(scope="module")
def refusals(server_dsn: str, template: str) -> dict[tuple[Path, str], str]:
    """The error of each query that PostgreSQL cannot prepare on a migrated database."""
    return asyncio.run(_prepare_all(server_dsn, template))


@pytest.mark.parametrize(("path", "name"), QUERIES)
def test_query_is_prepared_when_the_schema_is_migrated(
    refusals: dict[tuple[Path, str], str], path: Path, name: str
) -> None:
    assert (path, name) not in refusals, refusals[path, name]


@pytest.mark.parametrize(("path", "name"), QUERIES)
def test_query_is_used_in_the_code_when_it_is_defined(sources: str, path: Path, name: str) -> None:
    assert f'"{name}"' in sources


@pytest.fixture(scope="module")
def sources() -> str:
    """All Python code of the program."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(APP.rglob("*.py")))


def test_queries_are_read_by_name_when_they_have_comments_and_semicolons(tmp_path: Path) -> None:
    path = tmp_path / "queries.sql"
    path.write_text(
        "-- All of it.\n\n-- name: get_one\n-- $1 what\nSELECT $1::int;\n\n-- name: get_two\nSELECT 2;  \n\n"
    )
    assert load_queries(path) == {"get_one": "-- $1 what\nSELECT $1::int", "get_two": "SELECT 2"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("-- name: get_one\nSELECT 1;\n-- name: get_one\nSELECT 2;\n", "3: query get_one is defined twice"),
        ("-- All of it.\nSELECT 1;\n", "2: SQL before the first '-- name:' line"),
    ],
)
def test_queries_are_refused_with_the_line_when_a_name_is_missing_or_given_twice(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "queries.sql"
    path.write_text(text)
    with pytest.raises(ValueError) as refusal:
        load_queries(path)
    assert str(refusal.value) == f"{path}:{message}"


async def _prepare_all(server_dsn: str, template: str) -> dict[tuple[Path, str], str]:
    refusals = {}
    async with copied(server_dsn, template) as dsn:
        connection = await connect(dsn)
        for path in sorted(APP.rglob("*queries.sql")):
            for name, sql in load_queries(path).items():
                try:
                    await connection.prepare(sql)
                except asyncpg.PostgresError as error:
                    refusals[path, name] = str(error)
        await connection.close()
    return refusals
