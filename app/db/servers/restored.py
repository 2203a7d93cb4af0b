"""Detection of databases that were restored without the two restore functions of TimescaleDB.

Such a database looks complete, with all migrations applied. But readings in chunks that TimescaleDB does not know are
not shown, and new readings are stored without their key or outside the chunks.
"""

from app.db.pool import Connection
from app.db.sql import SQL
from app.errors import AppError

_REMEDY = "Restore the dump again, into an empty database, as docs/backup.md says"


class RestoreError(AppError):
    """The database was restored from a dump in a way that TimescaleDB does not support."""

    code = "restore"
    title = "The database was not restored as a whole"


async def check_restored(connection: Connection) -> None:
    """Raise RestoreError, with the remedy, for a database that TimescaleDB knows only in part."""
    if not await connection.fetchval(SQL["can_inspect_restore"]):
        return
    (found,) = await connection.fetch(SQL["inspect_restore"])
    if not found["is_hypertable"] or not found["has_key"]:
        lacking = "its primary key" if found["is_hypertable"] else "its entry in TimescaleDB's catalog"
        raise RestoreError(f"The table reading lacks {lacking}: restored without timescaledb_pre_restore(). {_REMEDY}")
    if found["unknown_chunks"]:
        raise RestoreError(
            f"TimescaleDB does not know {found['unknown_chunks']} chunks, whose rows nobody sees: restored without "
            f"timescaledb_pre_restore(). {_REMEDY}"
        )
    if found["is_restoring"]:
        raise RestoreError(
            "The database still waits for the end of a restore: restored without timescaledb_post_restore(). "
            "Run SELECT timescaledb_post_restore()"
        )
    if found["has_stray_rows"]:
        raise RestoreError(
            "Readings lie in the table reading beside its chunks, where nobody sees them: stored before "
            f"timescaledb_post_restore() was called. {_REMEDY}"
        )
