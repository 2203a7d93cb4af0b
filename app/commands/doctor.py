"""`tidegauge doctor`: checks everything that the server needs to start, and reports how to solve each problem."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
import rich_click as click
from rich.markup import escape
from rich.table import Table

from app.commands.console import command_body, load_settings, output
from app.db.aggregates import list_warnings
from app.db.edition import Edition, describe_edition, detect_edition
from app.db.migrations import MigrationError, list_pending
from app.db.pool import DATABASE_ERRORS, Connection, connect
from app.db.sql import SQL
from app.settings import Settings


class Finding(msgspec.Struct, frozen=True):
    """The result of one check."""

    state: Literal["ok", "note", "problem"]
    subject: str
    message: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@command_body
async def doctor(as_json: bool) -> int:
    """Check settings, database, edition, migrations and keys; the exit code is 1 when there is a problem."""
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


async def diagnose(settings: Settings) -> list[Finding]:
    """Check settings, database, edition, migrations and keys, in the order in which they depend on each other."""
    findings = [_check_environment_keys(settings)]
    dsn = settings.database_url or _embedded_dsn(settings)
    if dsn is None:
        message = "DATABASE_URL is not set and no embedded server runs now; `tidegauge up` starts one"
        return [*findings, Finding("note", "database", message)]
    try:
        async with _connection(dsn) as connection:
            return [*findings, *await _check_database(connection)]
    except DATABASE_ERRORS as error:
        return [*findings, Finding("problem", "database", f"does not answer: {error}")]


async def _check_database(connection: Connection) -> list[Finding]:
    version = await connection.fetchval("SHOW server_version")
    findings = [Finding("ok", "database", f"PostgreSQL {version}")]
    extension = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    if extension is None:
        return [*findings, Finding("problem", "timescaledb", "not created here yet; run `tidegauge migrate`")]
    edition = await detect_edition(connection)
    findings.append(Finding("ok", "timescaledb", f"{extension}, {edition}: {describe_edition(edition)}"))
    try:
        pending = await list_pending(connection)
    except MigrationError as error:
        return [*findings, Finding("problem", "migrations", str(error))]
    if pending:
        return [*findings, Finding("problem", "migrations", f"{', '.join(pending)} pending; run `tidegauge migrate`")]
    findings.append(Finding("ok", "migrations", "all applied"))
    return [*findings, *await _check_data(connection, edition)]


async def _check_data(connection: Connection, edition: Edition) -> list[Finding]:
    size = await connection.fetchval(SQL["get_database_size"])
    sensors = await connection.fetchval("SELECT count(*) FROM sensor")
    keys = await connection.fetchval("SELECT count(*) FROM api_key WHERE revoked_at IS NULL")
    findings = [
        Finding("ok", "data", f"{sensors} sensors, {size / 2**20:.0f} MiB"),
        Finding("ok", "stored keys", f"{keys} live"),
    ]
    return [*findings, *(Finding("note", "warning", text) for text in await list_warnings(connection, edition))]


def _check_environment_keys(settings: Settings) -> Finding:
    given = [name for name in ("API_KEY", "API_KEY_WS") if getattr(settings, name.lower())]
    if given:
        return Finding("ok", "keys", f"{' and '.join(given)} set")
    return Finding("note", "keys", "API_KEY and API_KEY_WS are not set; keys in the database work without them")


def _embedded_dsn(settings: Settings) -> str | None:
    path = settings.data_dir / "dsn.json"
    if not path.is_file():
        return None
    return msgspec.json.decode(path.read_bytes(), type=dict[str, str])["dsn"]


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[Connection]:
    connection = await connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()
