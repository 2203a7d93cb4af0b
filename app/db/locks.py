"""The lock of evaluation: one transaction at a time changes episodes, and claims of messages wait for it."""

from app.db.pool import Connection
from app.db.sql import SQL

#: The number under which PostgreSQL knows the advisory lock.
_EVALUATION = (7422, 1)


async def lock_evaluation(connection: Connection) -> None:
    """Take the lock until the transaction ends; waits for other evaluations, changes of rules and claims.

    Locking the row of each alert_state instead would write every row.
    """
    await connection.execute(SQL["lock_exclusively"], *_EVALUATION)


async def wait_for_evaluation(connection: Connection) -> None:
    """Wait for an evaluation under way and keep the next one out until the transaction ends; claims share the lock.

    An evaluation writes episodes and then the outbox, a claim the other way round: together they could deadlock.
    """
    await connection.execute(SQL["lock_shared"], *_EVALUATION)
