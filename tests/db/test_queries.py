"""Every named statement is one that the migrated schema can run, and one that the program uses."""

import re
from pathlib import Path

import pytest

from app.db.queries import load_queries
from tests.conftest import Database, project_folder

APP = project_folder() / "app"
FILES = sorted(APP.rglob("*queries.sql"))
STATEMENTS = [(path, name) for path in FILES for name in load_queries(path)]
#: A setting that only the Community edition has.
COMMUNITY_ONLY = {"allow_any_decompression"}


def test_queries_are_found_by_name_when_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "queries.sql"
    path.write_text("-- A comment.\n\n-- name: list_a\n-- $1 what\nSELECT $1;\n\n-- name: delete_a\nDELETE FROM a;\n")
    assert load_queries(path) == {"list_a": "-- $1 what\nSELECT $1", "delete_a": "DELETE FROM a"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT 1;\n", "SQL before the first"),
        ("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;\n", "query a is defined twice"),
    ],
)
def test_file_is_refused_when_a_statement_has_no_name_or_a_taken_one(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "queries.sql"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_queries(path)


async def test_every_statement_can_be_prepared_against_the_migrated_schema(database: Database) -> None:
    async with database.pool.acquire() as connection:
        for path, name in STATEMENTS:
            if name not in COMMUNITY_ONLY:
                await connection.prepare(load_queries(path)[name])


@pytest.mark.parametrize(("path", "name"), STATEMENTS, ids=[f"{path.parent.name}-{name}" for path, name in STATEMENTS])
def test_statement_is_used(path: Path, name: str) -> None:
    # Some are chosen by a name that is put together or listed: the bare word in quotes is enough.
    used = re.compile(rf"""["']{name}["']""")
    sources = [source for source in APP.rglob("*.py") if used.search(source.read_text())]
    assert sources, f"{path} holds {name}, which nothing uses"
