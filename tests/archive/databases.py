"""Comparison of two databases, and archives written and read, for the tests of archives."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from app.archive.export import export_archive, open_session
from app.archive.files import find_compression, written_archive
from app.archive.load import Imported, import_archive
from app.archive.manifest import Manifest
from app.archive.tables import TABLES
from app.db.aggregates import ensure_aggregates, roll_up
from app.db.edition import detect_edition
from app.db.pool import Connection, connect

#: The version of the rules differs, so that processes read them again.
ROWS = "SELECT (to_jsonb(stored) - 'version')::text FROM {table} AS stored {bound} ORDER BY 1"


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """Open a connection, which may stay in a transaction, until the block ends."""
    connection = await connect(dsn, idle_in_transaction_session_timeout="0")
    try:
        yield connection
    finally:
        await connection.close()


async def write_archive(dsn: str, path: Path) -> Manifest:
    """Export a database to a file."""
    connection = await open_session(dsn, writes=False)
    try:
        with (
            path.open("wb") as file,
            written_archive(file.write, find_compression(path.name), datetime.now(UTC)) as files,
        ):
            manifest = await export_archive(connection, files)
            files.add_manifest(manifest)
    finally:
        await connection.close()
    return manifest


async def move(source: str, target: str, path: Path) -> Imported:
    """Export a database and import it into another."""
    await write_archive(source, path)
    return await import_archive(path, target)


async def read_rows(dsn: str) -> dict[str, list[str]]:
    """Return the rows of every table that an archive holds."""
    async with connected(dsn) as connection:
        rows = {}
        for table in TABLES:
            bound = "WHERE time > '-infinity'" if table.name == "reading" else ""
            found = await connection.fetch(ROWS.format(table=table.name, bound=bound))
            rows[table.name] = [row[0] for row in found]
        return rows


async def refresh_all(dsn: str) -> None:
    """Store all that is past its real-time end in the aggregates."""
    async with connected(dsn) as connection:
        if await detect_edition(connection) == "apache-2":
            await roll_up(connection)
        else:
            await connection.execute("COMMENT ON VIEW reading_1d IS 'of another version'")
            await ensure_aggregates(connection)
