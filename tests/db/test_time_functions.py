"""from_us and to_us in SQL, held against those in Python."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.clock import from_us, to_us
from app.db.pool import connect
from tests.conftest import Database

MOMENTS = st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2900, 1, 1), timezones=st.just(UTC)), max_size=50)


@pytest.mark.parametrize("timezone", ["UTC", "America/Sao_Paulo"])
async def test_times_are_exact_in_both_directions_when_the_session_is_anywhere(
    database: Database, timezone: str
) -> None:
    connection = await connect(database.dsn, timezone=timezone)
    drawn: list[list[datetime]] = []
    settings(database=None, deadline=None)(given(MOMENTS)(drawn.append))()
    for moments in drawn:
        micros = [to_us(moment) for moment in moments]
        query = "SELECT array(SELECT to_us(t) FROM unnest($1::timestamptz[]) AS t)"
        assert await connection.fetchval(query, moments) == micros
        query = "SELECT array(SELECT from_us(us) FROM unnest($1::bigint[]) AS us)"
        assert await connection.fetchval(query, micros) == [from_us(us) for us in micros]
    assert drawn
    await connection.close()


async def test_functions_are_written_into_the_query_when_planned(database: Database) -> None:
    plan = await database.pool.fetch("EXPLAIN VERBOSE SELECT to_us(at), from_us(id) FROM feed")
    lines = "\n".join(row[0] for row in plan)
    assert "to_us(" not in lines
    assert "from_us(" not in lines
