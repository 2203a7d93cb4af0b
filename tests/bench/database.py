"""A migrated database for a benchmark, dropped afterwards."""

import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from app.db.embedded.server import EmbeddedServer
from app.db.migrations import migrate
from app.db.pool import connect
from tests.processes import data_folder


@asynccontextmanager
async def fresh_database(server_dsn: str | None) -> AsyncIterator[str]:
    """Create a migrated database on the given server, or on a new embedded server; yield its address."""
    if server_dsn is None:
        with (
            tempfile.TemporaryDirectory() as temporary,
            data_folder(Path(temporary)) as folder,
            EmbeddedServer.start(folder) as server,
        ):
            await migrate(server.dsn)
            yield server.dsn
        return
    name = f"tidegauge_bench_{secrets.token_hex(4)}"
    admin = await connect(server_dsn)
    try:
        await admin.execute(f'CREATE DATABASE "{name}"')
        dsn = urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}"))
        await migrate(dsn)
        yield dsn
    finally:
        await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await admin.close()
