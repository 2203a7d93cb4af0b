"""A connection that is cut while a statement runs on it: the statement fails as when the database is gone."""

import asyncio
from contextlib import suppress

from app.db.pool import DATABASE_ERRORS, Connection, connect, open_pool
from tests.conftest import Database

#: A statement waits for fewer answers: of the locks of its connection, of being prepared, of being executed.
ANSWERS = 5


async def test_statement_fails_with_an_error_of_the_database_when_its_connection_is_cut_after_any_answer(
    database: Database,
) -> None:
    pool = await open_pool(database.dsn, min_size=1, max_size=1)
    try:
        for answer in range(ANSWERS):
            async with pool.acquire() as connection:
                await _cut_at(connection, answer)
            await _cut_at(await connect(database.dsn), answer)
    finally:
        pool.terminate()


async def _cut_at(connection: Connection, number: int) -> None:
    """Cut a connection when an answer has come that its statement has not seen yet; no other error is allowed."""
    statement = asyncio.create_task(connection.fetchval("SELECT count(*) FROM pg_class"))
    while not statement.done():
        await asyncio.sleep(0)
        waits_for = getattr(statement, "_fut_waiter", None)
        if waits_for is not None and waits_for.done():
            if number == 0:
                break
            number -= 1
    connection.terminate()
    with suppress(*DATABASE_ERRORS):
        await statement
