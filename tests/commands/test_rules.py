"""`tidegauge check` and `tidegauge rules …`, run in separate processes."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import parse

import msgspec
import pytest

from app.clock import DAY_US, MINUTE_US, from_us, now_us
from app.commands import rules as rule_commands
from tests.conftest import Database, project_folder

WARM = """\
version: 1
rules:
  - name: warm
    sensors: {metric: temperature}
    unit: "°C"
    levels: {warning: {above: 8, for: 2m}}
  - name: cold
    sensors: {metric: temperature}
    levels: {info: {below: 0}}
channels:
  ops: {type: slack, webhook_url: "${CHANNEL_OPS_WEBHOOK}"}
"""
TESTS = """\
rules: ../rules.yml
tests:
  - name: warms up
    rule: warm
    series: [{sensor: cellar, metric: temperature, readings: 9 x5}]
    expect: [{level: warning, fired: +2m}]
"""


async def tidegauge(folder: Path, *arguments: str, **variables: str) -> tuple[int, str, str]:
    """Run the command in a folder and return its exit code, standard output and standard error."""
    environ = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    environ |= {"PYTHONPATH": str(project_folder()), "PYTHONIOENCODING": "utf-8", **variables}
    command = (sys.executable, "-m", "app", *arguments)
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environ, stdout=PIPE, stderr=PIPE)
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create a working folder with rules and their tests."""
    (tmp_path / "rules" / "tests").mkdir(parents=True)
    (tmp_path / "rules" / "rules.yml").write_text(WARM)
    (tmp_path / "rules" / "tests" / "warm.yml").write_text(TESTS)
    return tmp_path


async def test_check_counts_rules_and_channels_when_there_is_no_problem(folder: Path) -> None:
    (folder / ".env").write_text("CHANNEL_OPS_WEBHOOK=https://hooks.slack.com/services/x\n")
    assert await tidegauge(folder, "check") == (0, "rules: ok, 2 rules, 1 channel\n", "")


async def test_check_prints_every_problem_of_every_path(folder: Path) -> None:
    long_name = "x" * 120
    (folder / "other.yml").write_text(f"version: 2\nrules: [{{name: {long_name}}}]\n")
    code, output, errors = await tidegauge(
        folder, "check", "rules", "other.yml", CHANNEL_OPS_WEBHOOK="https://elsewhere"
    )
    assert (code, errors) == (1, "")
    lines = output.splitlines()
    assert lines[0] == "rules/rules.yml:11:22: webhook_url must begin with https://hooks.slack.com/"
    assert lines[1].startswith('other.yml:1:10: "version" takes the number 1; got the number 2')
    assert len(lines) == 5
    code, output, _ = await tidegauge(folder, "check", "--json")
    assert (code, msgspec.json.decode(output)) == (
        1,
        {
            "ok": False,
            "rules": 0,
            "channels": 0,
            "problems": [
                {
                    "file": "rules/rules.yml",
                    "line": 11,
                    "column": 22,
                    "message": '"webhook_url": the environment variable CHANNEL_OPS_WEBHOOK is not set, or empty',
                }
            ],
        },
    )


async def test_tests_of_the_rules_folder_run_when_no_file_is_named(folder: Path) -> None:
    assert await tidegauge(folder, "rules", "test") == (
        0,
        "rules/tests/warm.yml\n  ok    warms up\n1 test, all passed\n",
        "",
    )


async def test_failed_tests_are_printed_and_written_as_junit_xml(folder: Path) -> None:
    failing = folder / "failing.yml"
    failing.write_text(TESTS.replace("../rules", "rules/rules").replace("+2m", "+3m, notify: [ops]"))
    (folder / "broken.yml").write_text("rules: 5\n")
    code, output, errors = await tidegauge(
        folder, "rules", "test", "failing.yml", "broken.yml", "rules/tests", "--junit", "results.xml"
    )
    assert (code, errors) == (1, "")
    assert output.splitlines() == [
        "failing.yml",
        "  FAIL  warms up (failing.yml:3:5)",
        "        - warm, cellar: warning, fired +3m, still firing, notify [ops]",
        "        + warm, cellar: warning, fired +2m, still firing, notify [ops]",
        'broken.yml:1:1: "tests" is missing: the tests',
        (
            'broken.yml:1:8: "rules" takes a file or folder, such as ../climate.yml, or a list of rules; '
            "got the number 5"
        ),
        "rules/tests/warm.yml",
        "  ok    warms up",
        "2 tests, 1 failed (- expected, + happened), 1 of 3 files cannot be used",
    ]
    suites = parse(folder / "results.xml").getroot()  # noqa: S314 -- our own
    assert (suites.get("tests"), suites.get("failures"), suites.get("errors")) == ("3", "1", "1")


async def test_rules_test_is_refused_when_there_are_no_tests_or_the_results_cannot_be_written(folder: Path) -> None:
    (folder / "empty").mkdir()
    code, _, errors = await tidegauge(folder, "rules", "test", "empty")
    assert (code, errors) == (1, "Not found: There is no *.yml with tests in empty\n")
    code, _, errors = await tidegauge(folder, "rules", "test", "--junit", "nowhere/x.xml")
    assert (code, errors) == (1, "Cannot write: nowhere/x.xml: No such file or directory\n")


async def test_backtest_lists_episodes_and_writes_nothing(folder: Path, database: Database) -> None:
    yesterday_noon = now_us() // DAY_US * DAY_US - DAY_US // 2
    day = f"{from_us(yesterday_noon):%Y-%m-%d}"
    await store(database, "cellar [1]", yesterday_noon, (5, 9, 10, 9, 5, -1))

    code, output, errors = await tidegauge(folder, "rules", "backtest", "--since", "7d", DATABASE_URL=database.dsn)
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert [" ".join(line.split()) for line in lines[:3]] == [
        "rule sensor metric level started (UTC) fired resolved duration peak touches",
        f"warm cellar [1] temperature warning {day} 12:01:00 12:03:00 12:04:00 3m 10 °C",
        f"cold cellar [1] temperature info {day} 12:05:00 12:05:00 still firing 0 -1",
    ]
    assert lines[-1].startswith("2 episodes of 2 rules in 6 readings of 1 series since ")

    (folder / ".data").mkdir()
    (folder / ".data" / "dsn.json").write_bytes(msgspec.json.encode({"dsn": database.dsn}))
    code, output, _ = await tidegauge(folder, "rules", "backtest", "--since", "7d", "--rule", "warm", "--json")
    found = msgspec.json.decode(output)
    assert code == 0
    assert (found["rules"], found["series"], found["readings"]) == (["warm"], 1, 6)
    assert found["episodes"] == [
        {
            "rule": "warm",
            "sensor": "cellar [1]",
            "metric": "temperature",
            "level": "warning",
            "started_at": f"{day}T12:01:00Z",
            "fired_at": f"{day}T12:03:00Z",
            "resolved_at": f"{day}T12:04:00Z",
            "steps": [{"level": "warning", "at": f"{day}T12:03:00Z"}],
            "duration_s": 180.0,
            "peak": 10.0,
            "unit": "°C",
            "touches": [],
        }
    ]
    assert await database.pool.fetchval("SELECT count(*) FROM alert_episode") == 0
    assert await database.pool.fetchval("SELECT count(*) FROM alert_state") == 0


async def test_backtest_is_refused_with_one_line(folder: Path) -> None:
    unreachable = {"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/x"}
    for arguments, variables, said in (
        ((), {}, "Wrong setting: DATABASE_URL is not set, and no embedded server runs for .data\n"),
        (
            ("--rule", "wram"),
            unreachable,
            'Not found: There is no rule "wram"; did you mean "warm"? (there are: warm or cold)\n',
        ),
        ((), unreachable, "The database is away: "),
    ):
        code, output, errors = await tidegauge(folder, "rules", "backtest", "--since", "7d", *arguments, **variables)
        assert (code, output) == (1, "")
        assert errors.startswith(said)
        assert errors.count("\n") == 1
        assert "secret" not in errors


def test_help_documents_exit_codes() -> None:
    for command in (rule_commands.check, *rule_commands.rules.commands.values()):
        assert "Exit codes: 0 " in str(command.help)


async def store(database: Database, sensor: str, start_us: int, values: Sequence[float]) -> None:
    """Write readings, a minute apart, to the tables that ingest fills."""
    sensor_id = await database.pool.fetchval(
        "INSERT INTO sensor (name, created_by) VALUES ($1, 'test') RETURNING id", sensor
    )
    series_id = await database.pool.fetchval(
        "INSERT INTO series (sensor_id, metric) VALUES ($1, 'temperature') RETURNING id", sensor_id
    )
    rows = [(series_id, from_us(start_us + n * MINUTE_US), float(value)) for n, value in enumerate(values)]
    await database.pool.copy_records_to_table("reading", records=rows, columns=["series_id", "time", "value"])
    await database.pool.execute("INSERT INTO series_state VALUES ($1, $2, $3, now())", *rows[-1])


async def test_check_says_how_rules_fit_the_stored_readings(folder: Path, database: Database) -> None:
    noon = now_us() // DAY_US * DAY_US - DAY_US // 2
    await store(database, "cellar", noon, (5, 9, 10, 9, 5, -1))
    (folder / "fit.yml").write_text(
        """version: 1
rules:
  - name: fits
    sensors: {metric: temperature}
    levels: {warning: {above: 8, for: 2m}}
  - name: quick
    sensors: {metric: temperature}
    levels: {warning: {above: 8, for: 20s}}
    max_gap: 30s
    no_data: {after: 1m}
    when: {metric: door, equals: 0, max_age: 1h}
    overrides: [{sensors: {id: attic}, levels: {warning: {above: 9}}}]
  - name: slow
    sensors: {metric: temperature}
    levels: {warning: {above: 8, for: 20s}}
  - name: nothing
    sensors: {metric: pressure}
    levels: {warning: {above: 8}}
"""
    )
    code, output, errors = await tidegauge(folder, "check", "fit.yml", "--against-data", DATABASE_URL=database.dsn)
    assert (code, errors) == (0, "")
    assert output.splitlines()[1:] == [
        "  fits: 1 series, 1 episode in 7 days",
        "  quick: 1 series, 0 episodes in 7 days",
        "    its override for id attic matches none of its series",
        "    readings come every 1m, and max_gap is 30s: a level with for: can never fire (cellar)",
        "    no_data after 1m is under twice the usual 1m between uploads (cellar)",
        "    when: there is no series of door (cellar)",
        "  slow: 1 series, 1 episode in 7 days",
        (
            "    readings come every 1m, so for: 20s is reached only when the next one comes; holds: true with a "
            "max_gap counts a value until then (cellar)"
        ),
        "  nothing: 0 series, 0 episodes in 7 days",
        "    no stored series matches its sensors",
    ]
