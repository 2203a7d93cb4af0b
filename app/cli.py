"""The `tidegauge` command."""

from typing import Any

import msgspec
import rich_click as click
from rich.markup import escape
from rich.table import Table

from app import __version__
from app.auth.keys import SCOPES, SQL, Scope, create_key, revoke_key
from app.console import command_body, duration, find_dsn, load_settings, output, people, progress_bar
from app.db.embedded.server import EmbeddedServer
from app.db.migrations import list_pending, migrate, set_reader_password
from app.db.pool import Pool, connect, open_pool
from app.doctor import diagnose
from app.errors import SettingsError
from app.rule_commands import check, rules
from app.serve import DevelopmentKeys, database_kept_alive, find_development_key, serve, with_keys
from app.settings import Settings
from app.simulate import Plan, demo_gateways, demo_receiver, render_summary, server_url, simulate

click.rich_click.TEXT_MARKUP = "markdown"
click.rich_click.SHOW_ARGUMENTS = True


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tidegauge")
def main() -> None:
    """Sensor readings in; trends, alerts and a live feed out.

    Settings come from the environment and from `.env`; `.env.example` lists them all.
    Exit codes: 0 done, 1 refused or failed (one line says why), 2 wrong usage, 130 interrupted.
    """


main.add_command(check)
main.add_command(rules)


@main.command()
@click.option("--demo", is_flag=True, help="Also run simulated gateways against the server.")
@command_body
async def up(demo: bool) -> None:
    """Run everything: a database of its own unless DATABASE_URL is set, migrations, the server. Ctrl-C ends it."""
    settings = load_settings()
    if settings.database_url is not None:
        await _up(settings, "DATABASE_URL", demo)
        return
    with EmbeddedServer.start(settings.data_dir, say=lambda line: people.print(line, highlight=False)) as server:
        with_database = msgspec.structs.replace(settings, database_url=server.dsn)
        async with database_kept_alive(server):
            await _up(with_database, f"embedded, address in {settings.data_dir / 'dsn.json'}", demo)


async def _up(settings: Settings, database: str, demo: bool) -> None:
    await migrate(str(settings.database_url))
    settings, keys = await with_keys(settings)
    settings = msgspec.structs.replace(settings, public_url=settings.public_url or server_url(settings))
    _greet(settings, keys, database)
    if demo:
        async with demo_receiver(settings) as told, demo_gateways(told):
            await serve(told)
    else:
        await serve(settings)


_FIRST_READING = '[{"sensor": "cellar", "values": {"temperature": 12.5}}]'


def _greet(settings: Settings, keys: DevelopmentKeys | None, database: str) -> None:
    """Say where the page is and how to send a first reading; keys only where we made them up."""
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


@main.command("serve")
@command_body
async def serve_command() -> None:
    """Serve; needs DATABASE_URL, a migrated schema and at least one API key."""
    await serve(load_settings())


@main.command("migrate")
@click.option("--check", is_flag=True, help="Apply nothing; exit 1 when something is pending.")
@command_body
async def migrate_command(check: bool) -> int | None:
    """Bring the database's schema and aggregates up to date; safe to run from several processes at once."""
    settings = load_settings()
    dsn = find_dsn(settings)
    if check:
        connection = await connect(dsn)
        try:
            pending = await list_pending(connection)
        finally:
            await connection.close()
        for name in pending:
            output.print(f"pending: {name}", highlight=False, soft_wrap=True)
        return 1 if pending else 0
    with progress_bar() as progress:
        task = progress.add_task("filling aggregates, days", total=None, visible=False)
        applied = await migrate(
            dsn, progress=lambda done, total: progress.update(task, completed=done, total=total, visible=True)
        )
    if settings.reader_password:
        await set_reader_password(dsn, settings.reader_password)
    output.print(f"applied: {', '.join(applied)}" if applied else "up to date", highlight=False, soft_wrap=True)
    return None


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@command_body
async def doctor(as_json: bool) -> int:
    """Check settings, database, edition, migrations and keys; exit 1 when something needs a hand."""
    findings = await diagnose(load_settings())
    if as_json:
        output.print_json(msgspec.json.encode(findings).decode())
    else:
        marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[bold red]problem[/]"}
        table = Table.grid(padding=(0, 2))
        for finding in findings:
            table.add_row(marks[finding.state], finding.subject, escape(finding.message))
        output.print(table, highlight=False)
    return 1 if any(finding.state == "problem" for finding in findings) else 0


@main.group()
def key() -> None:
    """Create, list and revoke API keys in the database."""


@key.command("create")
@click.argument("label")
@click.option(
    "--scope", "scopes", multiple=True, type=click.Choice(SCOPES), required=True, help="What it may do; repeatable."
)
@click.option("--ws-connections", type=click.IntRange(min=0), help="WebSocket connections it may hold; 0 is no limit.")
@click.option("--sensors", type=click.IntRange(min=0), help="New sensors it may bring in all.")
@click.option(
    "--notifications-per-minute", type=click.IntRange(min=0), help="Notifications it may send; 0 is no limit."
)
@command_body
async def key_create(label: str, scopes: tuple[Scope, ...], **limits: int | None) -> None:
    """Create a key and print it; it is shown this once."""
    given = {name: value for name, value in limits.items() if value is not None}
    async with await _pool() as pool:
        print(await create_key(pool, label, frozenset(scopes), given))  # noqa: T201 -- bare, so that $(…) gets it


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
@command_body
async def key_list(as_json: bool) -> None:
    """List keys; never the keys themselves."""
    async with await _pool() as pool:
        rows = [dict(row) for row in await pool.fetch(SQL["list_keys"])]
    if as_json:
        output.print_json(msgspec.json.encode(rows).decode())
        return
    table = Table("label", "scopes", "limits", "created", "revoked", box=None)
    for row in rows:
        times = [f"{row[name]:%Y-%m-%d %H:%M}" if row[name] else "" for name in ("created_at", "revoked_at")]
        limits = " ".join(f"{name}={value}" for name, value in row["limits"].items())
        table.add_row(escape(row["label"]), " ".join(row["scopes"]), limits, *times)
    output.print(table)


@key.command("revoke")
@click.argument("label")
@command_body
async def key_revoke(label: str) -> None:
    """Revoke a key; it stops working everywhere within seconds."""
    async with await _pool() as pool:
        await revoke_key(pool, label)
    output.print(f"revoked {escape(label)}", highlight=False, soft_wrap=True)


@main.command("simulate")
@click.option("--url", help="The server; left out, the one that HOST and PORT name.")
@click.option("--key", help="A key with the scope ingest; left out, API_KEY or the development key.")
@click.option("--gateways", type=click.IntRange(1, 1_000), default=3, show_default=True, help="How many.")
@click.option("--sensors", type=click.IntRange(1, 10_000), default=4, show_default=True, help="At each gateway.")
@click.option(
    "--every", "every_us", type=duration, default="5s", show_default=True, help="Between two readings of a sensor."
)
@click.option(
    "--batch", "batch_us", type=duration, default="20s", show_default=True, help="Between two uploads of a gateway."
)
@click.option("--for", "duration_us", type=duration, help="How long to run; left out, until Ctrl-C.")
@click.option(
    "--speed",
    type=click.FloatRange(1),
    default=1.0,
    show_default=True,
    help="How much faster event time runs; needs --for, at whose end it reaches the present.",
)
@click.option("--history", "history_us", type=duration, default="0", help="First replay so much of the past in bulk.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same readings.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@command_body
async def simulate_command(url: str | None, key: str | None, as_json: bool, **options: Any) -> int:
    """Send readings as real gateways do: late, twice, in bulk, by clocks that are wrong.

    Gateways go offline and replay their buffers, lose answers and send again, wait when the server says so. The
    same seed makes the same readings, however they travel. On a terminal a table shows how it goes.
    Ctrl-C ends it and sends what is left; a second Ctrl-C drops that.

    Exit code 1 when something was dropped or rejected.
    """
    settings = load_settings()
    key = key or settings.api_key or find_development_key(settings.data_dir)
    if key is None:
        raise SettingsError("No API key: give --key or set API_KEY to a key with the scope ingest")
    summary = await simulate(Plan(url=url or server_url(settings), key=key, **options), people)
    if as_json:
        output.print_json(msgspec.json.encode(summary).decode())
    else:
        output.print(render_summary(summary), highlight=False)
    return 0 if summary.is_clean else 1


async def _pool() -> Pool:
    return await open_pool(find_dsn(load_settings()), min_size=1, max_size=2)


if __name__ == "__main__":
    main()
