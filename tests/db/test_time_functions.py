"""The functions from_us and to_us in SQL, compared with those in Python."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clock import from_us
from app.db.pool import connect
from tests.conftest import Database

#: Microseconds from 1900 to 2200; PostgreSQL's intervals are exact up to 2**53, in the year 2255.
MICROS = st.lists(st.integers(-2_208_988_800_000_000, 7_258_118_400_000_000), max_size=50)


@pytest.mark.parametrize("timezone", ["UTC", "America/Sao_Paulo"])
async def test_times_are_exact_in_both_directions_when_the_session_has_any_zone(
    database: Database, timezone: str
) -> None:
    drawn: list[list[int]] = []

    @settings(database=None, deadline=None)
    @given(MICROS)
    def draw(micros: list[int]) -> None:
        drawn.append(micros)

    draw()
    connection = await connect(database.dsn, timezone=timezone)
    for micros in drawn:
        moments = [from_us(us) for us in micros]
        sql = "SELECT array(SELECT to_us(t) FROM unnest($1::timestamptz[]) AS t)"
        assert await connection.fetchval(sql, moments) == micros
        sql = "SELECT array(SELECT from_us(us) FROM unnest($1::bigint[]) AS us)"
        assert await connection.fetchval(sql, micros) == moments
    assert drawn
    await connection.close()


async def test_functions_are_inlined_when_a_query_is_planned(database: Database) -> None:
    plan = await database.pool.fetch("EXPLAIN VERBOSE SELECT to_us(at), from_us(id) FROM feed")
    lines = "\n".join(row[0] for row in plan)
    assert "to_us(" not in lines
    assert "from_us(" not in lines
