"""`tidegauge export` and `tidegauge import`: readings as CSV, out of the database and into it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec
import rich_click as click
from rich.markup import escape
from rich.progress import DownloadColumn

from app.clock import now
from app.commands.console import command_body, find_dsn, load_settings, output, progress_bar, stderr
from app.db.pool import connect
from app.errors import AppError, InvalidRequestError
from app.ingest.imports.run import Import, Summary
from app.trends.export import Choice, export_readings
from app.trends.parameters import parse_time


class OutputError(AppError):
    """The output cannot be written: the disk is full, or nobody reads it."""

    code = "output"
    title = "The output cannot be written"


@click.command("export")
@click.option("--sensor", "sensors", multiple=True, metavar="GLOB", help="Sensors by name, with * and ?; repeatable.")
@click.option("--metric", "metrics", multiple=True, metavar="GLOB", help="Metrics by name, with * and ?; repeatable.")
@click.option("--from", "from_", metavar="TIME", help="2026-01-31T08:00:00Z, or before now, such as -24h; included.")
@click.option("--to", metavar="TIME", help="Likewise; excluded.")
@click.option("--unit", "with_unit", is_flag=True, help="Add the column unit, which `tidegauge import` leaves out.")
@click.option(
    "--output",
    "-o",
    "target",
    default="-",
    metavar="FILE",
    help="The file to write; - for standard output, the default.",
)
@command_body
async def export_command(
    sensors: tuple[str, ...], metrics: tuple[str, ...], from_: str | None, to: str | None, with_unit: bool, target: str
) -> None:
    """Write raw readings as CSV, in order of time: sensor,time,metric,value.

    `tidegauge import` reads it, and stores the same values at the same times. A file appears only once it is complete.
    What is stored while it runs may be left out.
    """
    choice = Choice(sensors, metrics, *_parse_times(from_, to), with_unit)
    connection = await connect(find_dsn(load_settings()), writes=False, idle_in_transaction_session_timeout="0")
    try:
        with _opened(target) as write, progress_bar() as progress:
            task = progress.add_task("exporting, days", total=None)
            count = await export_readings(
                connection, choice, write, lambda done, total: progress.update(task, completed=done, total=total)
            )
    finally:
        await connection.close()
    if target != "-":
        output.print(f"{count:,} values in {escape(target)}", highlight=False, soft_wrap=True)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@command_body
async def import_command(file: Path, as_json: bool) -> int:
    """Store the readings of a CSV file: sensor,time,metric,value, or sensor,time and a column for each metric.

    What is stored already counts as a duplicate. Bad rows go to FILE.rejected.csv, and the exit code is 1 if there are
    any. When it is interrupted, the same command goes on where it was; the server may run meanwhile.
    """
    dsn = find_dsn(load_settings())
    with progress_bar(DownloadColumn()) as progress:
        task = progress.add_task("importing", total=None)
        summary = await Import(
            file,
            dsn,
            lambda done, total: progress.update(task, completed=done, total=total),
            lambda text: stderr.print(escape(text), highlight=False, soft_wrap=True),
        ).run()
    if as_json:
        output.print_json(msgspec.json.encode(summary).decode())
    else:
        output.print(escape(_describe(summary)), highlight=False, soft_wrap=True)
    return 1 if summary.rejected else 0


def _parse_times(from_: str | None, to: str | None) -> tuple[datetime | None, datetime | None]:
    start = None if from_ is None else parse_time("--from", from_, now())
    end = None if to is None else parse_time("--to", to, now())
    if start is not None and end is not None and start >= end:
        raise InvalidRequestError(
            f"--from is {start.isoformat()} and --to is {end.isoformat()}; --from must be earlier"
        )
    return start, end


@contextmanager
def _opened(target: str) -> Iterator[Callable[[bytes], None]]:
    """Give a function that writes to a file, which takes its name at the end of the block, or to standard output."""
    if target == "-":
        yield _writing(sys.stdout.buffer.write)
        _writing(lambda data: sys.stdout.buffer.flush())(b"")
        return
    path = Path(target).resolve()  # of a link, the file that it leads to
    if path.exists() and not path.is_file():  # a device or a pipe
        with path.open("wb") as file:
            yield _writing(file.write)
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield _writing(file.write)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _writing(write: Callable[[bytes], object]) -> Callable[[bytes], None]:
    """Turn errors of the output, which look like those of a lost database, into OutputError."""

    def checked(data: bytes) -> None:
        try:
            write(data)
        except BrokenPipeError:
            # Python would try to write the rest again when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise OutputError("the program that reads it has ended") from None
        except OSError as error:
            raise OutputError(error.strerror or str(error)) from None

    return checked


def _describe(summary: Summary) -> str:
    text = f"accepted {summary.accepted:,}, duplicates {summary.duplicates:,}, rejected {summary.rejected:,}"
    return text if summary.rejected_file is None else f"{text}: see {summary.rejected_file}"
