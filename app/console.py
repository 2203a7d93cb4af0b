"""What all commands share: consoles, how a command ends, settings, the database, durations, progress."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

import msgspec
import rich_click as click
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from app import log
from app.alerting.durations import parse_duration
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
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                code = runner.run(function(*args, **kwargs))
        except AppError as error:
            people.print(f"[bold red]{error.title}:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(130)
        sys.exit(code or 0)

    return run


def load_settings() -> Settings:
    """Read the settings and set up the log as they say; raise SettingsError."""
    settings = Settings.from_environment()
    log.configure(settings.log_level, settings.log_format)
    return settings


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
