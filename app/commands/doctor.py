"""`tidegauge doctor`: reports missing conditions and faults, each with its remedy.

It checks settings, database, rules, what evaluates and sends, and what reports.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Literal

import asyncpg
import msgspec
import rich_click as click
from rich.markup import escape
from rich.table import Table

from app.alerting.language.files import load_checked
from app.clock import SECOND_US, rfc3339, to_us
from app.commands.console import command_body, count_of, find_embedded_dsn, load_settings, output
from app.commands.processes.development_key import list_variables
from app.commands.sql import SQL
from app.db import sql as db
from app.db.clock import follow_clock
from app.db.edition import describe_edition, detect_edition
from app.db.migrations import MigrationError, list_pending
from app.db.pool import DATABASE_ERRORS, Connection, connect
from app.db.rights import find_missing_role, list_open_rights
from app.db.servers.restored import RestoreError, check_restored
from app.durations import format_skew
from app.health import list_work_warnings, read_work, warn_of_skew
from app.health import sql as health
from app.health.work import Work
from app.notify import sql as notify
from app.settings import Settings
from app.yaml_files.problems import FileErrors

#: Largest number of mistakes, gateways or clocks that are shown; further ones are only counted.
_SHOWN = 3
#: A gateway's clock that is further ahead gets a note.
_AHEAD_S = 60
#: Time for which nothing of any upload of a gateway was taken.
_NOTHING_TAKEN = timedelta(seconds=60)


class Finding(msgspec.Struct, frozen=True):
    """The result of one check."""

    state: Literal["ok", "note", "problem"]
    subject: str
    message: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
@command_body
async def doctor(as_json: bool) -> int:
    """Check settings, database, migrations, keys, rules, evaluation, channels, gateways, clocks, uploads and sensors.

    The database is that of DATABASE_URL, or the embedded server that runs for DATA_DIR. The secrets that channels refer
    to must be set. Nothing is changed.

    The exit code is 1 when there is a problem. A note, such as a gateway that is offline, is not a problem.
    """
    findings = await diagnose(load_settings())
    if as_json:
        output.print_json(msgspec.json.encode(findings).decode())
    else:
        output.print(_table(findings), highlight=False)
    return 1 if any(finding.state == "problem" for finding in findings) else 0


async def diagnose(settings: Settings) -> list[Finding]:
    """Check settings, database, rules and what is running, in the order in which they depend on each other.

    Checks that need a usable database are left out when there is none.
    """
    keys, rules = _check_environment_keys(settings), _check_rules(settings)
    dsn = settings.database_url or find_embedded_dsn(settings)
    if dsn is None:
        message = "DATABASE_URL is not set and no embedded server runs now; `tidegauge up` starts one"
        return [keys, Finding("note", "database", message), *rules]
    try:
        async with _connection(dsn) as connection:
            schema = await _check_schema(connection)
            if any(finding.state == "problem" for finding in schema):
                return [keys, *schema, *rules]
            work = await read_work(connection, await detect_edition(connection))
            replica = await _check_replica(settings)
            data = await _check_data(connection, work)
            return [keys, *schema, *replica, *data, *rules, *await _check_work(connection, work)]
    except DATABASE_ERRORS as error:
        return [keys, Finding("problem", "database", f"does not answer: {error}"), *rules]


def _check_environment_keys(settings: Settings) -> Finding:
    given = list_variables(settings)
    if given:
        return Finding("ok", "keys", f"{' and '.join(given)} set")
    return Finding("note", "keys", "API_KEY and API_KEY_WS are not set; keys in the database work without them")


async def _check_schema(connection: Connection) -> list[Finding]:
    """Check the versions of database and extension, and the migrations; end with the first problem."""
    version = await connection.fetchval("SHOW server_version")
    if await connection.fetchval(health.SQL["is_read_only"]):
        text = f"PostgreSQL {version} only reads: it is a standby, or default_transaction_read_only is on"
        return [Finding("problem", "database", text)]
    findings = [Finding("ok", "database", f"PostgreSQL {version}")]
    extension = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    if extension is None:
        return [*findings, Finding("problem", "timescaledb", "not created here yet; run `tidegauge migrate`")]
    edition = await detect_edition(connection)
    findings.append(Finding("ok", "timescaledb", f"{extension}, {edition}: {describe_edition(edition)}"))
    try:
        await check_restored(connection)
        pending = await list_pending(connection)
    except MigrationError as error:
        return [*findings, Finding("problem", "migrations", str(error))]
    except RestoreError as error:
        return [*findings, Finding("problem", "restore", str(error))]
    if pending:
        return [*findings, Finding("problem", "migrations", f"{', '.join(pending)} pending; run `tidegauge migrate`")]
    return [*findings, Finding("ok", "migrations", "all applied")]


async def _check_replica(settings: Settings) -> list[Finding]:
    """Check that the replica for reads answers, if there is one."""
    if settings.read_database_url is None:
        return []
    try:
        async with _connection(settings.read_database_url) as connection:
            await connection.fetchval("SELECT 1")
    except DATABASE_ERRORS as error:
        text = f"that at READ_DATABASE_URL does not answer ({type(error).__name__}); reads go to DATABASE_URL"
        return [Finding("note", "replica", text)]
    return [Finding("ok", "replica", "answers")]


async def _check_data(connection: Connection, work: Work) -> list[Finding]:
    size = await connection.fetchval(db.SQL["get_database_size"])
    stored = await _fetch_one(connection, SQL["count_stored"])
    await follow_clock(connection)
    warnings = [*list_work_warnings(work), *warn_of_skew()]
    missing_role = await find_missing_role(connection)
    rights = [*([missing_role] if missing_role else []), *await list_open_rights(connection)]
    return [
        Finding("ok", "data", f"{stored['sensors']} sensors, {size / 2**20:.0f} MiB"),
        Finding("ok", "stored keys", f"{stored['live_keys']} live"),
        *(Finding("note", "warning", each.text) for each in warnings),
        *(
            [Finding("note", "rights", text) for text in rights]
            or [Finding("ok", "rights", "nobody has more rights than needed")]
        ),
    ]


def _check_rules(settings: Settings) -> list[Finding]:
    try:
        rule_set = load_checked(settings.rules_dir, settings)
    except FileErrors as errors:
        mistakes = [Finding("problem", "rules", str(problem)) for problem in errors.problems]
        return _shorten(mistakes, "tidegauge check")
    counts = f"{count_of(len(rule_set.rules), 'rule')}, {count_of(len(rule_set.channels), 'channel')}"
    return [Finding("ok", "rules", counts)]


async def _check_work(connection: Connection, work: Work) -> list[Finding]:
    """Check what evaluates and sends, and what gateways and sensors do."""
    gateways = await connection.fetch(SQL["summarise_gateways"])
    return [
        _check_evaluator(work),
        *await _check_channels(connection),
        _check_gateways(gateways),
        *_check_clocks(gateways),
        *_check_uploads(gateways),
        await _check_sensors(connection),
    ]


def _check_evaluator(work: Work) -> Finding:
    waiting = f"{count_of(work.dirty_rows, 'row')} of dirty to evaluate"
    if work.has_leader:
        return Finding("ok", "evaluator", f"a process evaluates rules; {waiting}")
    return Finding("problem", "evaluator", f"no process evaluates rules: is `tidegauge work` running? {waiting}")


async def _check_channels(connection: Connection) -> list[Finding]:
    rows = await connection.fetch(notify.SQL["list_channel_states"])
    texts = [f"{row['channel']} is broken since {_time(row['broken_since'])}: {row['reason']}" for row in rows]
    broken = [Finding("problem", "channels", text) for text in texts]
    outbox = await _fetch_one(connection, notify.SQL["measure_outbox"])
    if outbox["dead"]:
        letters = f"{count_of(outbox['dead'], 'dead letter')}: /api/v1/notifications/outbox?state=dead"
        return [*broken, Finding("note", "channels", letters)]
    return broken or [Finding("ok", "channels", "none is broken, no dead letters")]


def _check_gateways(gateways: list[asyncpg.Record]) -> Finding:
    offline = [row for row in gateways if row["is_offline"]]
    if not offline:
        return Finding("ok", "gateways", f"{len(gateways)} report")
    named = [f"{row['gateway']} (last upload {_time(row['last_upload_at'])})" for row in offline[:_SHOWN]]
    more = f" and {len(offline) - _SHOWN} more" if len(offline) > _SHOWN else ""
    return Finding("note", "gateways", f"offline: {', '.join(named)}{more}")


def _check_clocks(gateways: list[asyncpg.Record]) -> list[Finding]:
    """Check the clocks: ahead by the last upload, or wrong as the rule gateway-clock judges it."""
    wrong = [
        Finding("note", "clocks", f"the clock of {row['gateway']} is {format_skew(row['skew_s'])}")
        for row in gateways
        if row["skew_s"] is not None and (row["skew_s"] < -_AHEAD_S or row["is_clock_wrong"])
    ]
    return _shorten(wrong, "/api/v1/gateways") or [Finding("ok", "clocks", f"none is over {_AHEAD_S} s ahead")]


def _check_uploads(gateways: list[asyncpg.Record]) -> list[Finding]:
    """Check what is refused of uploads, and what contradicts what is stored."""
    notes = [
        Finding("note", "uploads", f"{row['gateway']}: {', '.join(facts)}")
        for row in gateways
        if (facts := _list_upload_facts(row))
    ]
    stored_twice = sum(row["duplicates"] for row in gateways)
    well = Finding("ok", "uploads", f"nothing was refused, {count_of(stored_twice, 'value')} came twice")
    return _shorten(notes, "/api/v1/gateways") or [well]


def _list_upload_facts(row: asyncpg.Record) -> list[str]:
    facts = []
    if row["rejected"]:
        codes = f" ({row['by_code']})" if row["by_code"] else ""
        facts.append(f"{count_of(row['rejected'], 'value')} refused{codes}")
    if row["last_taken_at"] is None or row["last_taken_at"] < row["last_upload_at"] - _NOTHING_TAKEN:
        facts.append("uploads arrive, all refused")
    if row["conflicts"]:
        verb = "differs" if row["conflicts"] == 1 else "differ"
        facts.append(f"{count_of(row['conflicts'], 'value')} {verb} from what is stored")
    if row["unknown_fields"]:
        facts.append(f"fields that no format has were left out: {', '.join(row['unknown_fields'][:_SHOWN])}")
    return facts


async def _check_sensors(connection: Connection) -> Finding:
    """Count silent sensors; one with an open alert, also an alert about its silence, counts as such instead."""
    found = await _fetch_one(connection, SQL["count_sensor_states"])
    counts = f"{found['silent']} of {found['in_use']} silent, {found['with_alert']} with an open alert"
    return Finding("note" if found["silent"] else "ok", "sensors", counts)


def _shorten(findings: list[Finding], where: str) -> list[Finding]:
    """Return the first findings, and one that says how many more there are and where."""
    more = len(findings) - _SHOWN
    if more <= 0:
        return findings
    last = findings[_SHOWN - 1]
    return [*findings[:_SHOWN], Finding(last.state, last.subject, f"and {more} more: {where}")]


async def _fetch_one(connection: Connection, query: str) -> asyncpg.Record:
    """Return the row of a query that always has one."""
    (row,) = await connection.fetch(query)
    return row


def _time(moment: datetime) -> str:
    return rfc3339(to_us(moment) // SECOND_US * SECOND_US)


@asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[Connection]:
    connection = await connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def _table(findings: list[Finding]) -> Table:
    marks = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[bold red]problem[/]"}
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        table.add_row(marks[finding.state], finding.subject, escape(finding.message))
    return table
