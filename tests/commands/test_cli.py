"""The `tidegauge` command, run in separate processes: help, exit codes, migrations, keys, refusals in one line."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import click
import pytest
from click.testing import CliRunner

from app import __version__
from app.commands.cli import main
from tests.conftest import Database
from tests.ports import free_port
from tests.processes import Ran, tidegauge

UNREADABLE = (
    "Wrong setting: DATABASE_URL cannot be read as an address. In a password write / as %2F, ? as %3F, # as %23, "
    "@ as %40 and : as %3A. Several hosts are separated by commas: "
    "postgresql://user:password@first:5432,second:5432/name"
)


def commands(group: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command and group, such as ("key", "create")."""
    yield path
    if isinstance(group, click.Group):
        for name in group.list_commands(context(group)):
            yield from commands(child(group, name), (*path, name))


def context(group: click.Group) -> click.Context:
    return click.Context(group)


def child(group: click.Command, name: str) -> click.Command:
    """Return a command of a group."""
    assert isinstance(group, click.Group)
    command = group.get_command(context(group), name)
    assert command is not None, name
    return command


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help_describes_every_command_and_option(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0, result.output
    command: click.Command = main
    for name in path:
        command = child(command, name)
    assert command.help
    assert re.match(r"[A-Z]", command.help)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)} {parameter.opts[0]} has no help"


def test_help_names_exit_codes() -> None:
    assert "Exit codes: 0 done, 1 refused or failed" in CliRunner().invoke(main, ["-h"]).output


def test_command_imports_no_other_command() -> None:
    code = "import sys; from app.commands.cli import main; main(['key', '--help'], standalone_mode=False); "
    shown = "print(*sorted(name for name in sys.modules if name.startswith('app.')))"
    ran = subprocess.run([sys.executable, "-c", code + shown], capture_output=True, text=True, check=True)
    imported = ran.stdout.splitlines()[-1].split()
    assert "app.commands.keys" in imported
    assert not {"app.commands.rules", "app.main", "app.worker"} & {*imported}


def test_version_is_shown() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"tidegauge, version {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["serve", "--port", "80"],
        ["key", "create", "label"],
        ["key", "create", "label", "--scope", "root"],
        ["key", "create", "label", "--scope", "live", "--ws-connections", "-1"],
        ["key", "create", "label", "--scope", "ingest", "--new-sensors", "-1"],
        ["key", "create", "label", "--scope", "ingest", "--sensors", "500"],
        ["key", "create", "label", "--scope", "ingest", "--rate", "0"],
        ["key", "create", "label", "--scope", "ingest", "--expires", "soon"],
        ["key", "create", "label", "--scope", "ingest", "--gateway", ""],
        ["key", "create", "label", "--scope", "ingest", "--prefix", "h/", "--sensors", "roof-*"],
        ["key", "revoke"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


# Settings and databases that the server cannot use


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({}, "Wrong setting: DATABASE_URL is not set; `tidegauge up` runs a database of its own"),
        ({"PORT": "99999"}, "Wrong setting: PORT is 99999; it must be a port number from 0 to 65535"),
        ({"PORT": "http"}, "Wrong setting: PORT is 'http'; it must be a port number from 0 to 65535"),
        ({"LOG_LEVEL": "loud"}, "Wrong setting: LOG_LEVEL is 'loud'; it must be debug or info or warning or error"),
        (
            {"MAX_WS_CONNECTIONS_PER_KEY": "-2"},
            "Wrong setting: MAX_WS_CONNECTIONS_PER_KEY is -2; it must be a whole number, 0 for unlimited",
        ),
        (
            {"DATABASE_URL": "mysql://me:hidden-one@h/x"},
            "Wrong setting: DATABASE_URL must look like postgresql://user:password@host:5432/name",
        ),
        (
            {"PUBLIC_URL": "tidegauge.example"},
            "Wrong setting: PUBLIC_URL is 'tidegauge.example'; it must be an address such as https://tidegauge.example",
        ),
        ({"DATABASE_URL": "postgresql://me:hidden/one@h/x"}, UNREADABLE),
    ],
    ids=str,
)
def test_serve_refuses_in_one_line_when_a_setting_is_wrong(tmp_path: Path, environ: dict[str, str], line: str) -> None:
    assert tidegauge(tmp_path, "serve", **environ).refusal == line


def test_serve_reads_settings_from_a_file_when_the_environment_has_none(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=seven\n")
    assert "PORT is 'seven'" in tidegauge(tmp_path, "serve").refusal


def test_serve_refuses_in_one_line_when_the_schema_is_not_migrated(tmp_path: Path, empty_dsn: str) -> None:
    line = tidegauge(tmp_path, "serve", DATABASE_URL=empty_dsn, PORT="0").refusal
    assert line.startswith("Migrations do not fit: The database lacks 0001_readings.sql, 0002_feed.sql, ")
    assert line.endswith("; run `tidegauge migrate` first")


def test_serve_refuses_in_one_line_when_there_is_no_key(tmp_path: Path, database: Database) -> None:
    line = tidegauge(tmp_path, "serve", DATABASE_URL=database.dsn, PORT="0").refusal
    assert line.startswith("Wrong setting: No API key is configured, so nobody could use the server")


def test_serve_refuses_in_one_line_when_the_password_is_wrong(tmp_path: Path, database: Database) -> None:
    wrong = with_password(database.dsn, "hidden-one")
    line = tidegauge(tmp_path, "serve", DATABASE_URL=wrong, PORT="0").refusal
    assert line.startswith("Wrong setting: The database at DATABASE_URL refuses: password authentication failed")
    assert "hidden-one" not in line


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_serve_refuses_in_one_line_when_host_is_no_address_of_this_machine(
    tmp_path: Path, database: Database, host: str
) -> None:
    line = tidegauge(tmp_path, "serve", DATABASE_URL=database.dsn, HOST=host, API_KEY="k").refusal
    assert line.startswith(f"Wrong setting: HOST {host} and PORT 8000 cannot be listened on: ")


@pytest.mark.parametrize("arguments", [["migrate"], ["migrate", "--check"], ["key", "list"], ["up"]], ids=" ".join)
def test_command_refuses_in_one_line_when_the_database_does_not_answer(tmp_path: Path, arguments: list[str]) -> None:
    dsn = f"postgresql://me:hidden-one@127.0.0.1:{free_port()}/x"
    line = tidegauge(tmp_path, *arguments, DATABASE_URL=dsn).refusal
    assert line.startswith("The database cannot be used: ")
    assert "refused" in line
    assert "hidden-one" not in line


@pytest.mark.parametrize("arguments", [["key", "list"], ["migrate", "--check"]], ids=" ".join)
def test_command_refuses_in_one_line_when_there_is_no_database(tmp_path: Path, arguments: list[str]) -> None:
    line = tidegauge(tmp_path, *arguments).refusal
    assert line == "Wrong setting: DATABASE_URL is not set, and no embedded server runs for .data"


def test_key_list_names_the_command_to_run_when_the_schema_is_not_migrated(tmp_path: Path, empty_dsn: str) -> None:
    line = tidegauge(tmp_path, "key", "list", DATABASE_URL=empty_dsn).refusal
    assert line.startswith("The database is not migrated: ")
    assert line.endswith("run `tidegauge migrate` first")


def with_password(dsn: str, password: str) -> str:
    address = urlsplit(dsn)
    return urlunsplit(address._replace(netloc=f"{address.username}:{password}@{address.hostname}:{address.port}"))


# Migrations


def test_migrate_check_lists_pending_migrations_until_they_are_applied(tmp_path: Path, empty_dsn: str) -> None:
    before = tidegauge(tmp_path, "migrate", "--check", DATABASE_URL=empty_dsn)
    assert before.code == 1
    pending = before.out.splitlines()
    assert pending[:2] == ["pending: 0001_readings.sql", "pending: 0002_feed.sql"]
    applied = tidegauge(tmp_path, "migrate", DATABASE_URL=empty_dsn)
    assert applied.code == 0
    names = [line.removeprefix("pending: ") for line in pending]
    assert applied.out == f"applied: {', '.join([*names, 'aggregates'])}\n"
    after = tidegauge(tmp_path, "migrate", "--check", DATABASE_URL=empty_dsn)
    assert (after.code, after.out) == (0, "")
    again = tidegauge(tmp_path, "migrate", DATABASE_URL=empty_dsn)
    assert (again.code, again.out) == (0, "up to date\n")


# Keys


def test_key_is_printed_when_created_and_never_when_listed(tmp_path: Path, database: Database) -> None:
    created = tidegauge(
        tmp_path, "key", "create", "pi-1 [x]", "--scope", "ingest", "--scope", "live", "--ws-connections", "3",
        DATABASE_URL=database.dsn,
    )  # fmt: skip
    assert created.code == 0
    assert created.err == ""
    key = created.out.splitlines()[0]
    assert re.fullmatch(r"tg_[\w-]{43}", key)
    listed = tidegauge(tmp_path, "key", "list", DATABASE_URL=database.dsn)
    assert listed.code == 0
    assert [word in listed.out for word in ("pi-1 [x]", "ingest live", "ws_connections=3", key)] == [True] * 3 + [False]
    (row,) = tidegauge(tmp_path, "key", "list", "--json", DATABASE_URL=database.dsn).json
    assert {name: row[name] for name in ("label", "scopes", "limits", "revoked_at")} == {
        "label": "pi-1 [x]",
        "scopes": ["ingest", "live"],
        "limits": {"ws_connections": 3},
        "revoked_at": None,
    }
    assert key not in json.dumps(row)


def test_key_is_printed_with_examples_of_its_use(tmp_path: Path, database: Database) -> None:
    command = ("key", "create", "roof", "--scope", "ingest")
    bound = ("--gateway", "harbour", "--sensors", "h/roof-*", "--prefix", "h/", "--rate", "60", "--expires", "90d")
    environ = {"DATABASE_URL": database.dsn, "PUBLIC_URL": "https://tide.example/gauge"}
    printed = tidegauge(tmp_path, *command, *bound, **environ).out
    key = printed.splitlines()[0]
    assert f'curl "https://tide.example/gauge/api/v1/readings" -H "X-API-Key: {key}"' in printed
    assert f'  urls = ["https://tide.example/gauge"]\n  token = "{key}"\n' in printed
    lines = ("  ssl: true", "  host: tide.example", "  port: 443", "  path: /gauge", f"  token: {key}")
    assert "\n".join(lines) in printed
    assert printed.endswith("Readings sent with this key are those of the gateway harbour.\n")
    (row,) = tidegauge(tmp_path, "key", "list", "--json", DATABASE_URL=database.dsn).json
    assert {name: row[name] for name in ("gateway", "sensors", "prefix", "limits", "last_used_at")} == {
        "gateway": "harbour",
        "sensors": "h/roof-*",
        "prefix": "h/",
        "limits": {"uploads_per_minute": 60},
        "last_used_at": None,
    }
    listed = tidegauge(tmp_path, "key", "list", DATABASE_URL=database.dsn).out
    assert "gateway=harbour sensors=h/roof-* prefix=h/" in listed
    assert row["expires_at"][:16].replace("T", " ") in listed
    plain = tidegauge(tmp_path, "key", "create", "quay", "--scope", "ingest", "--plain", DATABASE_URL=database.dsn)
    assert re.fullmatch(r"tg_[\w-]{43}\n", plain.out)


def test_key_is_bound_to_a_gateway_of_its_name_when_only_sensors_are_given(tmp_path: Path, database: Database) -> None:
    create_bound = ("key", "create", "roof", "--scope", "ingest", "--sensors", "roof-*")
    assert tidegauge(tmp_path, *create_bound, DATABASE_URL=database.dsn).code == 0
    (row,) = tidegauge(tmp_path, "key", "list", "--json", DATABASE_URL=database.dsn).json
    assert (row["gateway"], row["sensors"], row["prefix"]) == ("roof", "roof-*", "")


def test_key_is_refused_when_its_label_exists(tmp_path: Path, database: Database) -> None:
    create(tmp_path, database, "screen")
    line = create(tmp_path, database, "screen").refusal
    said = "A key with the label 'screen' exists already; choose another label, or revoke that key first"
    assert line == f"Conflict: {said}"


@pytest.mark.parametrize("label", ["screen", "[/red]"])
def test_key_is_revoked_once(tmp_path: Path, database: Database, label: str) -> None:
    create(tmp_path, database, label)
    revoked = tidegauge(tmp_path, "key", "revoke", label, DATABASE_URL=database.dsn)
    assert (revoked.code, revoked.out) == (0, f"revoked {label}\n")
    (row,) = tidegauge(tmp_path, "key", "list", "--json", DATABASE_URL=database.dsn).json
    assert row["revoked_at"]
    again = tidegauge(tmp_path, "key", "revoke", label, DATABASE_URL=database.dsn).refusal
    assert again == f"Not found: No live key has the label '{label}'; `tidegauge key list` shows them"


def create(folder: Path, database: Database, label: str) -> Ran:
    return tidegauge(folder, "key", "create", label, "--scope", "live", DATABASE_URL=database.dsn)
