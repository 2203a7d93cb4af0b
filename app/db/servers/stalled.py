"""The end of sessions of ours whose process has stopped in the middle of a statement, with locks that others wait for.

No timeout of PostgreSQL ends a COPY that waits for its client, and the host of a process that was stopped (SIGSTOP, a
frozen virtual machine's disk) still answers keepalives.
"""

from datetime import timedelta

import structlog

from app.db.pool import Pool
from app.db.sql import SQL

#: Interval between two looks, and how long a session may wait for its client while others wait for it. Together they
#: are less than the lock_timeout of those others.
LOOK_EVERY_S = 3.0
STALLED_S = 10.0
log = structlog.get_logger()


async def end_stalled_sessions(pool: Pool) -> None:
    """End sessions of our login that wait for their client for longer than STALLED_S while others wait for them."""
    async with pool.acquire() as connection, connection.transaction():
        # Only the login itself, not a role that it has set, may end its sessions.
        await connection.execute("SET LOCAL ROLE NONE")
        ended = await connection.fetch(SQL["end_stalled_sessions"], timedelta(seconds=STALLED_S))
    for row in ended:
        log.warning("stalled_session_ended", session=row["application_name"], waited_s=round(row["waited_s"], 1))
