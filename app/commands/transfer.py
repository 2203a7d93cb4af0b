"""`tidegauge export` and `tidegauge import`: readings as CSV, or all data, out of the database and into it."""

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

from app.archive.export import export_archive, open_session
from app.archive.files import find_compression, is_archive, written_archive
from app.archive.load import Imported, Reports, import_archive
from app.clock import now
from app.commands.console import command_body, count_of, find_dsn, load_settings, output, progress_bar, stderr
from app.db.pool import connect
from app.errors import AppError, InvalidRequestError
from app.ingest.imports.run import Import, ImportSummary
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
@click.option("--to", metavar="TIME", help="In the same forms; excluded.")
@click.option("--unit", "with_unit", is_flag=True, help="Add the column unit, which `tidegauge import` leaves out.")
@click.option(
    "--output",
    "-o",
    "target",
    default="-",
    metavar="FILE",
    help="The file to write; - for standard output, the default.",
)
@click.option(
    "--all",
    "archive",
    metavar="FILE",
    help="Write everything, not only readings, to a .tar, .tar.gz or .tar.zst; - for standard output.",
)
@command_body
async def export_command(
    sensors: tuple[str, ...],
    metrics: tuple[str, ...],
    from_: str | None,
    to: str | None,
    with_unit: bool,
    target: str,
    archive: str | None,
) -> None:
    """Write raw readings as CSV, in order of time: sensor,time,metric,value.

    `tidegauge import` reads it, and stores the same values at the same times. A file appears only once it is complete.
    Readings that are stored while it runs may be left out.

    With `--all`, write an archive of all data as they are at one moment: sensors, readings, aggregates whose readings
    are gone, alerts, silences, messages, keys. `tidegauge import` brings it into another, empty database.
    """
    if archive is not None:
        if sensors or metrics or from_ or to or with_unit or target != "-":
            raise InvalidRequestError("--all exports everything to the file that it names; leave out the other options")
        return await _export_all(archive)
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
    return None


async def _export_all(target: str) -> None:
    compression = find_compression(target)
    connection = await open_session(find_dsn(load_settings()), writes=False)
    try:
        with _opened(target, mode=0o600) as write, progress_bar() as progress:
            task = progress.add_task("exporting, days", total=None)
            with written_archive(write, compression, now()) as files:
                manifest = await export_archive(
                    connection, files, lambda done, total: progress.update(task, completed=done, total=total)
                )
                files.add_manifest(manifest)
    finally:
        await connection.close()
    if target != "-":
        counts = f"{count_of(manifest.count('reading'), 'reading')} of {count_of(manifest.count('sensor'), 'sensor')}"
        output.print(f"{counts} and everything else in {escape(target)}", highlight=False, soft_wrap=True)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@command_body
async def import_command(file: Path, as_json: bool) -> int:
    """Store the readings of a CSV file: sensor,time,metric,value, or sensor,time and a column for each metric.

    Values that are stored already count as duplicates. Bad rows go to FILE.rejected.csv, and the exit code is 1 if
    there are any. After an interruption, the same command continues where it was. The server may run meanwhile.

    An archive of `tidegauge export --all` is recognised by its content. It is stored completely or not at all, in an
    empty database, which is migrated first. When it is interrupted, run the same command again.
    """
    dsn = find_dsn(load_settings())
    if is_archive(file):
        return await _import_all(file, dsn, as_json)
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


async def _import_all(file: Path, dsn: str, as_json: bool) -> int:
    with progress_bar(DownloadColumn()) as read, progress_bar() as filled:
        checking, loading = (read.add_task(text, total=None) for text in ("checking", "importing"))
        filling = filled.add_task("filling aggregates, days", total=None, visible=False)
        imported = await import_archive(
            file,
            dsn,
            Reports(
                lambda done, total: read.update(checking, completed=done, total=total),
                lambda done, total: read.update(loading, completed=done, total=total),
                lambda done, total: filled.update(filling, completed=done, total=total, visible=True),
            ),
        )
    if as_json:
        output.print_json(msgspec.json.encode(imported).decode())
    else:
        output.print(_describe_import(imported), highlight=False, soft_wrap=True)
    return 0


def _parse_times(from_: str | None, to: str | None) -> tuple[datetime | None, datetime | None]:
    start = None if from_ is None else parse_time("--from", from_, now())
    end = None if to is None else parse_time("--to", to, now())
    if start is not None and end is not None and start >= end:
        raise InvalidRequestError(
            f"--from is {start.isoformat()} and --to is {end.isoformat()}; --from must be earlier"
        )
    return start, end


@contextmanager
def _opened(target: str, mode: int = 0o666) -> Iterator[Callable[[bytes], None]]:
    """Yield a function that writes to a file, which takes its name at the end of the block, or to standard output.

    `mode` are the rights of a new file before the umask.
    """
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
        part.unlink(missing_ok=True)
        with open(part, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
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


def _describe(summary: ImportSummary) -> str:
    text = f"accepted {summary.accepted:,}, duplicates {summary.duplicates:,}, rejected {summary.rejected:,}"
    return text if summary.rejected_file is None else f"{text}: see {summary.rejected_file}"


def _describe_import(imported: Imported) -> str:
    readings, sensors = count_of(imported.readings, "reading"), count_of(imported.sensors, "sensor")
    what = f"{readings} of {sensors} and {count_of(imported.alerts, 'alert')}"
    text = f"{what} as of {imported.exported_at:%Y-%m-%d %H:%M:%S} UTC"
    if imported.imported_before is not None:
        return f"imported already at {imported.imported_before:%Y-%m-%d %H:%M:%S} UTC: {text}"
    if imported.left_messages:
        left = count_of(imported.left_messages, "pending alert message")
        text += f"; left to the worker of the exported database: {left}"
    return f"imported {text}"
