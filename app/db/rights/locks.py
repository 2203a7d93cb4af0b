"""The evaluation lock: one transaction at a time changes episodes, and claims of outbox messages wait for it.

It is the lock of a table, not an advisory lock: any user of the database could take one and stop all alerts.
"""

from app.db.pool import Connection
from app.db.sql import SQL


async def lock_evaluation(connection: Connection) -> None:
    """Take the lock until the transaction ends, after waiting for other evaluations, changes of rules, and claims.

    Locking the rows of alert_state instead would write to every row.
    """
    await connection.execute(SQL["lock_evaluation"])


async def wait_for_evaluation(connection: Connection) -> None:
    """Wait for a running evaluation and keep the next one out until the transaction ends; claims share the lock.

    An evaluation writes episodes first and the outbox second. A claim writes in the opposite order. Without the lock
    the two could deadlock.
    """
    await connection.execute(SQL["share_evaluation_lock"])
