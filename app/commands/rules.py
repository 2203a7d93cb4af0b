"""The commands about rules: `check`, `rules test` and `rules backtest`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import rich_click as click
from rich.console import Console
from rich.text import Text

from app.alerting.language.files import load_checked, load_unsent
from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import RuleSet
from app.alerting.trials.against_data import DAYS, RuleFit, fit_rules
from app.alerting.trials.backtest import Backtest, run_backtest
from app.alerting.trials.backtest_report import describe_backtest, episode_table
from app.alerting.trials.junit import FileResult, write_junit
from app.alerting.trials.rule_test_files import read_rule_tests
from app.alerting.trials.rule_tests import RuleTestResult, run_rule_tests
from app.clock import SECOND_US, now_us, rfc3339
from app.commands.console import command_body, count_of, duration, find_dsn, load_settings, output, progress_bar
from app.db.clock import follow_clock
from app.db.pool import DATABASE_ERRORS, Connection, connect
from app.errors import AppError, DatabaseUnavailableError, NotFoundError
from app.hints import did_you_mean, listed, shown
from app.settings import Settings
from app.yaml_files.problems import FileErrors, FileProblem

#: So wide that rich does not shorten the cells of a table; a terminal wraps long lines instead.
_wide_output = Console(width=1_000)
_PATHS = click.Path(path_type=Path)


class UnwritableError(AppError):
    """A file of results cannot be written."""

    code = "unwritable"
    title = "Cannot write"


@click.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=_PATHS)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--against-data", is_flag=True, help="Also say how the rules fit the readings that are stored.")
@command_body
async def check(paths: tuple[Path, ...], as_json: bool, against_data: bool) -> int:
    """Check rules and channels, and print every problem as file:line:column: message.

    Each PATH is a folder of rules or one file, which is checked by itself; without PATH, RULES_DIR is checked. With
    CHANNELS_DIR, channels are those of that folder. The secrets that channels refer to must be set.

    With --against-data, each rule is also tried on the stored readings, which are read as for `rules backtest`: how
    many series it selects, how often it would have fired in the last 7 days, which of its overrides match nothing, and
    which of for, max_gap and no_data fit badly to the usual time between readings. These are warnings and no problems.

    Exit codes: 0 no problem, 1 at least one problem, or the database does not answer, 2 wrong usage.
    """
    settings = load_settings()
    loaded: dict[Path, RuleSet] = {}
    problems: list[FileProblem] = []
    for path in paths or (settings.rules_dir,):
        try:
            loaded[path] = load_checked(path, settings)
        except FileErrors as errors:
            problems.extend(errors.problems)
    fits = {path: await _fit_to_data(rule_set) for path, rule_set in loaded.items()} if against_data else {}
    if as_json:
        fitting = {"against_data": [fit for each in fits.values() for fit in each]} if against_data else {}
        _print_json({**_check_result(loaded.values(), problems), **fitting})
    else:
        for problem in problems:
            _print(str(problem))
        for path, rule_set in loaded.items():
            _print(
                f"{path}: ok, {count_of(len(rule_set.rules), 'rule')}, {count_of(len(rule_set.channels), 'channel')}"
            )
            _print_fits(fits.get(path, ()))
    return 1 if problems else 0


@click.group()
def rules() -> None:
    """Try rules out on made-up readings or on stored readings."""


@rules.command("test")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=_PATHS)
@click.option("--junit", type=_PATHS, help="Also write the results to this file, as JUnit XML.")
@command_body
async def test_command(files: tuple[Path, ...], junit: Path | None) -> int:
    """Run unit tests of rules: compare the episodes and messages that given readings make with those expected.

    Each FILE is a file of tests or a folder of such files; without FILE, the folder tests in RULES_DIR is used.
    rules/README.md explains how to write tests. Neither a database nor a secret is needed.

    Exit codes: 0 all passed, 1 a test failed or a file cannot be used, 2 wrong usage.
    """
    settings = load_settings()
    results = {}
    for file in _list_test_files(files or (settings.rules_dir / "tests",)):
        results[str(file)] = result = _run_file(file, settings.channels_dir)
        _print_result(file, result)
    if junit is not None:
        _write(junit, write_junit(results))
    _print(_summary(results))
    return 0 if all(result.passed for result in results.values()) else 1


@rules.command("backtest")
@click.option("--since", "since_us", type=duration, required=True, help="How far to look back, such as 7d.")
@click.option("--rule", "names", multiple=True, help="Only this rule; repeatable.")
@click.option("--rules", "path", type=_PATHS, help="A folder of rules or one file; default: RULES_DIR.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@command_body
async def backtest_command(since_us: int, names: tuple[str, ...], path: Path | None, as_json: bool) -> None:
    """Run rules over stored readings and list the episodes that they make; nothing is sent or written.

    The readings are read from DATABASE_URL, or from the embedded server that runs for DATA_DIR. A backtest starts with
    no open episode and includes all readings, also those that arrived too late for a message. Where an episode may
    therefore differ from the alerts that were really sent, the column touches shows why:

    - start: the episode depends on readings from before --since
    - era: the live evaluation restarted near the episode, because the rule was new or was changed
    - retention: readings that matter for the episode may have been deleted

    Exit codes: 0 done, whatever was found; 1 wrong rules, or the database does not answer; 2 wrong usage.
    """
    settings = load_settings()
    rule_set = _choose(load_unsent(path or settings.rules_dir, settings.channels_dir), names)
    result = await _run_backtest(settings, RuleBook(rule_set), since_us)
    if as_json:
        _print_json(describe_backtest(result, rule_set))
    else:
        _print_backtest(result, rule_set)


async def _run_backtest(settings: Settings, book: RuleBook, since_us: int) -> Backtest:
    """Run a backtest up to now, with a progress bar; raise DatabaseUnavailableError."""
    connection = await _connect_to_read(settings)
    try:
        now = now_us()
        with progress_bar() as progress:
            task = progress.add_task("series", total=None)
            return await run_backtest(
                connection,
                book,
                now - since_us,
                now,
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    finally:
        await connection.close()


async def _connect_to_read(settings: Settings) -> Connection:
    """Connect to the database with the readings, and follow its clock."""
    try:
        connection = await connect(find_dsn(settings), writes=False, default_transaction_read_only="on")
    except DATABASE_ERRORS as error:
        raise DatabaseUnavailableError(str(error)) from None
    await follow_clock(connection)
    return connection


async def _fit_to_data(rule_set: RuleSet) -> list[RuleFit]:
    connection = await _connect_to_read(load_settings())
    try:
        with progress_bar() as progress:
            task = progress.add_task("series", total=None)
            return await fit_rules(
                connection,
                rule_set,
                now_us(),
                lambda done, total: progress.update(task, completed=done, total=total),
            )
    finally:
        await connection.close()


def _print_fits(fits: Iterable[RuleFit]) -> None:
    for fit in fits:
        episodes = f"{fit.episodes} episode{'' if fit.episodes == 1 else 's'} in {DAYS} days"
        _print(f"  {fit.rule}: {fit.series} series, {episodes}")
        for warning in fit.warnings:
            _print(f"    {warning}")


def _check_result(loaded: Iterable[RuleSet], problems: Sequence[FileProblem]) -> dict[str, Any]:
    sets = list(loaded)
    return {
        "ok": not problems,
        "rules": sum(len(rule_set.rules) for rule_set in sets),
        "channels": sum(len(rule_set.channels) for rule_set in sets),
        "problems": problems,
    }


def _list_test_files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        files = sorted(path.glob("*.yml"))
        if not files:
            raise NotFoundError(f"There is no *.yml with tests in {path}")
        yield from files


def _run_file(file: Path, channels_dir: Path | None) -> FileResult:
    try:
        return FileResult(outcomes=tuple(run_rule_tests(read_rule_tests(file, channels_dir))))
    except FileErrors as errors:
        return FileResult(problems=errors.problems)


def _print_result(file: Path, result: FileResult) -> None:
    for problem in result.problems:
        _print(str(problem))
    if result.outcomes:
        _print(str(file))
    for outcome in result.outcomes:
        _print_outcome(outcome)


def _print_outcome(outcome: RuleTestResult) -> None:
    if outcome.passed:
        _print(Text.assemble("  ", ("ok", "green"), f"    {outcome.name}"))
        return
    _print(Text.assemble("  ", ("FAIL", "bold red"), f"  {outcome.name} ({outcome.place})"))
    styles = {"-": "red", "+": "green"}
    for line in outcome.difference:
        _print(Text(f"        {line}", styles.get(line[0], "dim")))


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UnwritableError(f"{path}: {error.strerror}") from None


def _summary(results: Mapping[str, FileResult]) -> str:
    outcomes = [outcome for result in results.values() for outcome in result.outcomes]
    failed = sum(not outcome.passed for outcome in outcomes)
    unusable = sum(bool(result.problems) for result in results.values())
    parts = [count_of(len(outcomes), "test")]
    if failed:
        parts.append(f"{failed} failed (- expected, + happened)")
    elif outcomes:
        parts.append("all passed")
    if unusable:
        parts.append(f"{unusable} of {count_of(len(results), 'file')} cannot be used")
    return ", ".join(parts)


def _choose(rule_set: RuleSet, names: tuple[str, ...]) -> RuleSet:
    """Return the rule set with the named rules only, or with all if no name is given; raise NotFoundError."""
    known = [rule.name for rule in rule_set.rules]
    for name in names:
        if name not in known:
            there_are = listed(known) if known else "none"
            raise NotFoundError(f"There is no rule {shown(name)}{did_you_mean(name, known)} (there are: {there_are})")
    chosen = tuple(rule for rule in rule_set.rules if not names or rule.name in names)
    return RuleSet(chosen, rule_set.channels)


def _print_backtest(result: Backtest, rule_set: RuleSet) -> None:
    if result.episodes:
        _wide_output.print(episode_table(result.episodes))
        _print("")
    since = rfc3339(result.from_us // SECOND_US * SECOND_US)
    found = f"{count_of(len(result.episodes), 'episode')} of {count_of(len(rule_set.rules), 'rule')}"
    _print(f"{found} in {result.readings:,} readings of {result.series:,} series since {since}")
    marked = sum(bool(found.touches) for found in result.episodes)
    if marked:
        _print(f"{marked} marked: the alerts sent may differ; `tidegauge rules backtest --help` explains why")


def _print(line: str | Text) -> None:
    """Print a line unchanged: markup is not interpreted, and a long line is not wrapped."""
    output.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _print_json(result: Mapping[str, Any]) -> None:
    output.print_json(msgspec.json.encode(result).decode())
