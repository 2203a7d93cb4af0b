"""`tidegauge up`: runs the embedded database unless DATABASE_URL is set, the migrations and the server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import rich_click as click
import structlog

from app import __version__
from app.commands.console import command_body, load_settings, output, stderr
from app.commands.development_keys import DevelopmentKeys, with_keys
from app.commands.serve import serve
from app.db.embedded.server import EmbeddedServer
from app.db.migrations import migrate
from app.errors import AppError
from app.settings import Settings
from app.simulate import demo_gateways, demo_receiver, server_url
from app.tasks import running

_WATCH_S = 0.5
_RETRY_S = 5.0
_FIRST_READING = '[{"sensor": "cellar", "values": {"temperature": 12.5}}]'
log = structlog.get_logger()


@click.command()
@click.option("--demo", is_flag=True, help="Also run simulated gateways against the server.")
@command_body
async def up(demo: bool) -> None:
    """Run everything: the embedded database unless DATABASE_URL is set, the migrations and the server.

    Ctrl-C ends it.
    """
    settings = load_settings()
    if settings.database_url is not None:
        await _up(settings, "DATABASE_URL", demo)
        return
    with EmbeddedServer.start(settings.data_dir, say=lambda line: stderr.print(line, highlight=False)) as server:
        with_database = msgspec.structs.replace(settings, database_url=server.dsn)
        async with database_kept_alive(server):
            await _up(with_database, f"embedded, address in {settings.data_dir / 'dsn.json'}", demo)


async def _up(settings: Settings, database: str, demo: bool) -> None:
    await migrate(str(settings.database_url))
    settings, keys = await with_keys(settings)
    settings = msgspec.structs.replace(settings, public_url=settings.public_url or server_url(settings))
    _print_addresses(settings, keys, database)
    if demo:
        async with demo_receiver(settings) as demo_settings, demo_gateways(demo_settings):
            await serve(demo_settings)
    else:
        await serve(settings)


def _print_addresses(settings: Settings, keys: DevelopmentKeys | None, database: str) -> None:
    """Print the addresses of the page, the API and the database; with development keys, also how to send a reading."""
    address = server_url(settings)
    lines = [
        f"[bold]Tidegauge {__version__}[/]",
        f"  page        {address}/",
        f"  API         {address}/schema",
        f"  database    {database}",
    ]
    if keys is not None:
        lines += [
            f"  API_KEY     [bold]{keys.api_key}[/]",
            f"  API_KEY_WS  [bold]{keys.api_key_ws}[/]  (development keys, kept in {settings.data_dir})",
            "",
            f"curl {address}/api/v1/readings -H 'X-API-Key: {keys.api_key}' -d '{_FIRST_READING}'",
        ]
    output.print("\n".join([*lines, ""]), highlight=False, soft_wrap=True)


@asynccontextmanager
async def database_kept_alive(server: EmbeddedServer) -> AsyncIterator[None]:
    """Until the block ends, start the database again whenever its process has died."""

    async def watch() -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            try:
                if await asyncio.to_thread(server.restart_if_dead):
                    log.warning("database_restarted")
            except (AppError, OSError) as error:
                log.error("database_not_restarted", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async with running(watch(), "database_watch"):
        yield
