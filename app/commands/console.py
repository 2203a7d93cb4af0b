"""Code shared by the commands: consoles, exit codes, settings, the database's address, durations, progress bars."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, NoReturn, ParamSpec

import asyncpg
import msgspec
import rich_click as click
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from app import log
from app.db.pool import DATABASE_ERRORS, Pool, open_pool
from app.durations import parse_duration
from app.errors import AppError, SettingsError
from app.settings import Settings

#: Standard error, for text that a script does not read: progress, the live table of the simulation, refusals.
stderr = Console(stderr=True)
output = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 500)
P = ParamSpec("P")


def command_body(function: Callable[P, Coroutine[Any, Any, int | None]]) -> Callable[P, None]:
    """Turn an async function into the body of a command, which ends the process with the exit code returned.

    An AppError or a database error is printed as one line on standard error, and the exit code is 1. Ctrl-C and SIGTERM
    end with exit code 130.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        # SIGTERM raises KeyboardInterrupt, as Ctrl-C does, so that connections and servers are closed in order.
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
    stderr.print(f"[bold red]{title}:[/] {escape(text)}", highlight=False, soft_wrap=True)
    sys.exit(1)


def load_settings() -> Settings:
    """Read the settings and configure the log accordingly; raise SettingsError."""
    settings = Settings.from_environment()
    log.configure(settings.log_level, settings.log_format)
    return settings


def find_dsn(settings: Settings) -> str:
    """Return DATABASE_URL, or the address of the embedded server that runs for DATA_DIR; raise SettingsError."""
    dsn = settings.database_url or find_embedded_dsn(settings)
    if dsn is None:
        raise SettingsError(f"DATABASE_URL is not set, and no embedded server runs for {settings.data_dir}")
    return dsn


def find_embedded_dsn(settings: Settings) -> str | None:
    """Return the address of the embedded server that runs for DATA_DIR, or None if none runs."""
    running = settings.data_dir / "dsn.json"
    return msgspec.json.decode(running.read_bytes(), type=dict[str, str])["dsn"] if running.is_file() else None


async def open_command_pool() -> Pool:
    """Open a small pool on the database that the settings name; raise SettingsError."""
    return await open_pool(find_dsn(load_settings()), min_size=1, max_size=2)


def duration(text: str) -> int:
    """Return a duration, written as in rule files, in microseconds."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun, which gets an s unless the number is 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def progress_bar(amount: ProgressColumn | None = None) -> Progress:
    """Return a progress bar on standard error, which is shown on a terminal only; `amount` shows what is done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        amount or MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
    )
