"""What all commands share: consoles, how a command ends, settings, the database, durations, progress."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, NoReturn, ParamSpec
from urllib.parse import urlsplit

import asyncpg
import msgspec
import rich_click as click
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app import log
from app.db.pool import DATABASE_ERRORS
from app.durations import parse_duration
from app.errors import AppError, SettingsError
from app.settings import Settings

#: Standard error, for people: progress, tables of no use to a script, refusals.
people = Console(stderr=True)
output = Console()
P = ParamSpec("P")


def command_body(function: Callable[P, Coroutine[Any, Any, int | None]]) -> Callable[P, None]:
    """Run an async command; a refusal is one line on standard error and exit code 1."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        # Like Ctrl-C: what was opened is closed, where by default the process would just end.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                code = runner.run(function(*args, **kwargs))
        except AppError as error:
            _refuse(error.title, str(error))
        except asyncpg.UndefinedTableError as error:
            _refuse("The database is not migrated", f"{error}; run `tidegauge migrate` first")
        except DATABASE_ERRORS as error:
            if isinstance(error, OSError) and error.filename is not None:
                _refuse("The file cannot be used", str(error))
            _refuse("The database cannot be used", str(error) or type(error).__name__)
        except KeyboardInterrupt:
            sys.exit(130)
        sys.exit(code or 0)

    return run


def _refuse(title: str, text: str) -> NoReturn:
    people.print(f"[bold red]{title}:[/] {escape(text)}", highlight=False, soft_wrap=True)
    sys.exit(1)


def load_settings() -> Settings:
    """Read the settings and set up the log as they say; raise SettingsError."""
    settings = Settings.from_environment()
    _check_addresses(settings)
    log.configure(settings.log_level, settings.log_format)
    return settings


def _check_addresses(settings: Settings) -> None:
    """Refuse an address that cannot be taken apart, without showing it: the reason is mostly its password."""
    for name in ("database_url", "read_database_url"):
        try:
            _ = urlsplit(getattr(settings, name) or "").port
        except ValueError:
            raise SettingsError(
                f"{name.upper()} cannot be read as an address. In a password write / as %2F, ? as %3F, # as %23, "
                "@ as %40 and : as %3A"
            ) from None


def find_dsn(settings: Settings) -> str:
    """Find the database: DATABASE_URL, or the embedded server that runs for DATA_DIR just now."""
    if settings.database_url is not None:
        return settings.database_url
    running = settings.data_dir / "dsn.json"
    if running.is_file():
        return str(msgspec.json.decode(running.read_bytes(), type=dict[str, str])["dsn"])
    raise SettingsError(f"DATABASE_URL is not set, and no embedded server runs for {settings.data_dir}")


def duration(text: str) -> int:
    """Read a duration as rule files write it, as microseconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def progress_bar() -> Progress:
    """Make a progress bar on standard error, on a terminal only."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=people,
        transient=True,
        disable=not people.is_terminal,
    )
