"""`tidegauge up`: runs the embedded database unless DATABASE_URL is set, the migrations, the API and the worker."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import rich_click as click
import structlog
from rich.markup import escape

from app import __version__
from app.auth.keys import DEVELOPMENT_LABEL, SCOPES, make_key
from app.commands.console import command_body, load_settings, output, stderr
from app.commands.processes.development_key import Keys, open_keys
from app.commands.processes.serve import check_start
from app.commands.processes.server import listen
from app.commands.processes.supervisor import Program, supervise
from app.db.embedded.server import EmbeddedServer
from app.db.migrations import migrate
from app.db.servers.pooler import refuse_transaction_pooling
from app.errors import AppError
from app.services import Services
from app.settings import Settings
from app.simulate import demo_gateways, demo_receiver
from app.tasks import running
from app.uplink import server_url

_WATCH_S = 0.5
_RETRY_S = 5.0
_FIRST_READING = '[{"sensor": "cellar", "values": {"temperature": 12.5}}]'
_CREATE_KEY = f"tidegauge key create me {' '.join(f'--scope {scope}' for scope in SCOPES)}"
log = structlog.get_logger()


@click.command()
@click.option("--demo", is_flag=True, help="Also run simulated gateways against the server.")
@command_body
async def up(demo: bool) -> None:
    """Run everything: the embedded database unless DATABASE_URL is set, the migrations, the API and the worker.

    Ctrl-C ends it. The API and the worker are processes of their own, which are started again when they die.
    """
    settings = load_settings()
    if settings.database_url is not None:
        await refuse_transaction_pooling("DATABASE_URL", settings.database_url)
        await _up(settings, "DATABASE_URL", demo)
        return
    with EmbeddedServer.start(settings.data_dir, say=lambda line: stderr.print(line, highlight=False)) as server:
        with_database = msgspec.structs.replace(settings, database_url=server.dsn)
        async with database_kept_alive(server):
            await _up(with_database, f"embedded, address in {settings.data_dir / 'dsn.json'}", demo)


async def _up(settings: Settings, database: str, demo: bool) -> None:
    await migrate(str(settings.database_url))
    keys = await open_keys(settings)
    settings = msgspec.structs.replace(settings, public_url=settings.public_url or server_url(settings))
    listening = await listen(settings.host, settings.port)
    _print_addresses(settings, keys, database)
    if demo:
        # A key of the environment lives as long as this process: the demo needs no key that outlives it.
        key = settings.api_key or keys.development or make_key()
        in_environment = settings if keys.development else msgspec.structs.replace(settings, api_key=key)
        async with demo_receiver() as receiver, demo_gateways(in_environment, key):
            await _run(in_environment, listening, receiver)
    else:
        await _run(settings, listening, {})


async def _run(settings: Settings, listening: Sequence[socket.socket], environment: Mapping[str, str]) -> None:
    """Run the API on these sockets and the worker with these further variables, until SIGINT or SIGTERM."""
    # A key can be created while the server runs; the embedded database runs no longer than that.
    await check_start(Services(settings, needs_key=False))
    given = {name: getattr(settings, name.lower()) or "" for name in ("DATABASE_URL", "PUBLIC_URL", "API_KEY")}
    # The settings have the values already, and a variable and its file must not both be set.
    given |= {"DATABASE_URL_FILE": "", "API_KEY_FILE": ""}
    serve = Program("serve", ("serve", "--no-key"), given, listening)
    work = Program("work", ("work", "--supervised"), {**given, **environment})
    await supervise([serve, work])


def _print_addresses(settings: Settings, keys: Keys, database: str) -> None:
    """Print where the page, the API and the database are, and which keys exist."""
    address = server_url(settings)
    # The page takes the key from the fragment, which a browser sends to no server.
    sign_in = f"#key={keys.development}" if keys.is_alone else ""
    lines = [
        f"[bold]Tidegauge {__version__}[/]",
        f"  page        {escape(address)}/{sign_in}",
        f"  API         {escape(address)}/schema",
        f"  database    {escape(database)}",
        *_describe_keys(keys, address, settings.data_dir),
        "",
    ]
    output.print("\n".join(lines), highlight=False, soft_wrap=True)


def _describe_keys(keys: Keys, address: str, data_dir: Path) -> list[str]:
    """Return the lines about keys.

    The development key is shown while it is the only one, with a command that sends a first reading. Otherwise the keys
    are named. When there is none, or a development key that is not in DATA_DIR, a command that creates a key follows.
    """
    if keys.is_alone:
        return [
            f"  API_KEY     [bold]{keys.development}[/]  (development key, kept in {escape(str(data_dir))})",
            "",
            f"curl {escape(address)}/api/v1/readings -H 'X-API-Key: {keys.development}' -d '{_FIRST_READING}'",
        ]
    if keys.is_empty:
        return ["  keys        none, so nobody can use the server. Create one while it runs:", "", _CREATE_KEY]
    line = f"  keys        {escape(', '.join(_name_keys(keys, data_dir)))}"
    if keys.is_unknown:
        unknown = "The development key is not known here. Create another key while the server runs:"
        return [line, "", unknown, _CREATE_KEY]
    return [line]


def _name_keys(keys: Keys, data_dir: Path) -> list[str]:
    """Return the names of all keys: variables, and labels of stored keys, with where the development key is."""
    where = f"kept in {data_dir}" if keys.development else f"not in {data_dir}"
    labels = [f"{label} ({where})" if label == DEVELOPMENT_LABEL else label for label in keys.labels]
    return [*keys.variables, *labels]


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
