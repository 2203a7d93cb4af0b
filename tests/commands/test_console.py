"""The exit codes of commands, their refusals in one line, and the settings and database that they use."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
import rich_click as click

from app.commands.console import command_body, count_of, duration, find_dsn, load_settings
from app.errors import NotFoundError, SettingsError
from app.settings import Settings


def exit_code_of(function: Callable[[], object]) -> int | None:
    """Run a function as the body of a command and return the exit code."""

    async def body() -> int | None:
        result = function()
        return result if isinstance(result, int) else None

    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            command_body(body)()
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def failing(error: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


def test_command_ends_with_the_code_that_it_returns_or_0() -> None:
    assert exit_code_of(lambda: None) == 0
    assert exit_code_of(lambda: 1) == 1


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NotFoundError("There is no rule [x]"), "Not found: There is no rule [x]"),
        (
            asyncpg.UndefinedTableError('relation "sensor" does not exist'),
            'The database is not migrated: relation "sensor" does not exist; run `tidegauge migrate` first',
        ),
        (ConnectionRefusedError("refused"), "The database cannot be used: refused"),
        (TimeoutError(), "The database cannot be used: TimeoutError"),
        (
            FileNotFoundError(2, "No such file or directory", "rules.yml"),
            "The file cannot be used: [Errno 2] No such file or directory: 'rules.yml'",
        ),
    ],
)
def test_refusal_is_one_line_on_standard_error_and_exit_code_1(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(failing(error)) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"{line}\n")


def test_interruption_is_exit_code_130() -> None:
    async def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as ended:
            command_body(interrupted)()
    finally:
        signal.signal(signal.SIGTERM, handlers[0])
        signal.signal(signal.SIGINT, handlers[1])
    assert ended.value.code == 130


def test_unexpected_error_is_raised() -> None:
    async def faulty() -> None:
        raise ZeroDivisionError

    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(ZeroDivisionError):
            command_body(faulty)()
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_database_address_is_refused_without_being_shown_when_it_cannot_be_parsed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:pass/word@127.0.0.1:5432/name")
    with pytest.raises(SettingsError) as refusal:
        load_settings()
    assert str(refusal.value).startswith("DATABASE_URL cannot be read as an address.")
    assert "word" not in str(refusal.value).replace("password", "")


def test_database_is_database_url_or_else_the_running_embedded_server(tmp_path: Path) -> None:
    given = Settings(database_url="postgresql://given", data_dir=tmp_path)
    assert find_dsn(given) == "postgresql://given"
    with pytest.raises(SettingsError, match="DATABASE_URL is not set, and no embedded server runs for"):
        find_dsn(Settings(data_dir=tmp_path))
    (tmp_path / "dsn.json").write_text('{"dsn": "postgresql://embedded"}')
    assert find_dsn(Settings(data_dir=tmp_path)) == "postgresql://embedded"


def test_duration_is_read_as_in_rule_files() -> None:
    assert duration("1h30m") == 5_400_000_000
    with pytest.raises(click.BadParameter, match="is not a duration"):
        duration("soon")


def test_noun_is_plural_unless_there_is_one() -> None:
    assert (count_of(1, "rule"), count_of(0, "rule"), count_of(12_345, "row")) == ("1 rule", "0 rules", "12,345 rows")
