"""Ends sessions of Tidegauge whose process was stopped in the middle of a statement while others wait for their locks.

No timeout of PostgreSQL ends a COPY that waits for its client, and the host of a stopped process (SIGSTOP, the frozen
disk of a virtual machine) still answers keepalives.
"""

from datetime import timedelta

import structlog

from app.db.pool import Pool
from app.db.sql import SQL

#: Interval between two looks, and longest wait of a session for its client while others wait for its locks. Together
#: they are shorter than the lock_timeout of the others.
LOOK_EVERY_S = 3.0
STALLED_S = 10.0
log = structlog.get_logger()


async def end_stalled_sessions(pool: Pool) -> None:
    """End sessions of our login that wait for their client for longer than STALLED_S while others wait for them."""
    async with pool.acquire() as connection, connection.transaction():
        # Only the login may end its sessions, not a role that it has set.
        await connection.execute("SET LOCAL ROLE NONE")
        ended = await connection.fetch(SQL["end_stalled_sessions"], timedelta(seconds=STALLED_S))
    for row in ended:
        log.warning("stalled_session_ended", session=row["application_name"], waited_s=round(row["waited_s"], 1))
