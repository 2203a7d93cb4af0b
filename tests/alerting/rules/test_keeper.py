"""The rules in force with invalid files, missing folders and restarts."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from app.alerting.rules import keeper as rule_keeper
from app.alerting.rules.keeper import RuleKeeper
from app.alerting.service import make_rule_keeper
from app.db.pool import Pool
from app.metrics import Metrics
from app.settings import Settings
from tests import processes
from tests.alerting.harness import WARM, AlertingHarness
from tests.conftest import API_KEY, Database, Server, running_server, wait_until
from tests.notify.dispatchers import until
from tests.ports import free_port

RULE = """
  - name: {name}
    sensors: {{metric: temperature}}
    levels: {{warning: {{above: 8}}}}
    notify: []
"""


def write(folder: Path, *names: str, file: str = "rules.yml") -> None:
    rules = "".join(RULE.format(name=name) for name in names)
    (folder / file).write_text(f"version: 1\nrules:{rules or ' []'}\n")


def write_invalid(folder: Path) -> None:
    (folder / "rules.yml").write_text("version: 1\nrules:\n  - name: warm\n    sensor: {metric: temperature}\n")


def make_keeper(folder: Path, metrics: Metrics | None = None) -> RuleKeeper:
    return make_rule_keeper(Settings(rules_dir=folder), metrics or Metrics())


async def opened(folder: Path, pool: Pool) -> RuleKeeper:
    """Open a keeper as a starting process does."""
    keeper = make_keeper(folder)
    await keeper.open(pool)
    return keeper


def names(keeper: RuleKeeper) -> list[str]:
    return [rule.name for rule in keeper.rules.rules]


@asynccontextmanager
async def watching(keeper: RuleKeeper, pool: Pool) -> AsyncIterator[None]:
    task = asyncio.create_task(keeper.watch(pool, lambda: True))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_keeper, "SETTLE_S", 0.2)
    monkeypatch.setattr(rule_keeper, "_LOOK_EVERY_S", 0.02)


async def test_rules_are_in_force_and_stored_when_they_are_valid(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "warm", "cold")
    keeper = await opened(tmp_path, database.pool)
    assert (names(keeper), keeper.problems) == (["warm", "cold"], ())
    assert [match.rule.name for match in keeper.book.matches("a", "temperature", {}, None)] == ["warm", "cold"]
    assert sorted(keeper.since) == ["cold", "warm"]
    assert await database.pool.fetchval("SELECT count(*) FROM rule_set") == 1


async def test_rules_stay_in_force_when_their_file_becomes_invalid(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "warm")
    metrics = Metrics()
    keeper = make_keeper(tmp_path, metrics)
    await keeper.open(database.pool)
    write_invalid(tmp_path)
    assert not await keeper.reload(database.pool)
    assert names(keeper) == ["warm"]
    assert str(keeper.problems[0]) == f'{tmp_path}/rules.yml:3:5: "levels" is missing: the levels, least severe first'
    assert f"\ntidegauge_rule_problems {len(keeper.problems)}.0\n".encode() in metrics.render()
    write(tmp_path, "cold")
    assert await keeper.reload(database.pool)
    assert (names(keeper), keeper.problems) == (["cold"], ())
    assert b"\ntidegauge_rule_problems 0.0\n" in metrics.render()


@pytest.mark.parametrize("loss", ["invalid", "empty", "missing", "unreadable"])
async def test_rules_stay_in_force_after_a_restart_when_their_files_are_unusable(
    database: Database, tmp_path: Path, loss: str
) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    write(folder, "warm")
    before = await opened(folder, database.pool)
    if loss == "invalid":
        write_invalid(folder)
    else:
        (folder / "rules.yml").unlink()
    if loss == "missing":
        folder.rmdir()
    elif loss == "unreadable":
        folder.rmdir()
        folder.symlink_to(tmp_path / "nowhere")
    after = await opened(folder, database.pool)
    assert names(after) == ["warm"]
    assert after.problems
    assert after.since == before.since


async def test_alerts_stay_open_when_the_file_is_lost_and_end_when_the_list_is_empty(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (1, 9))
    await harness.tick()
    (harness.folder / "rules.yml").unlink()
    assert not await harness.alerting.keeper.reload(harness.pool)
    await harness.tick()
    assert await harness.open_alerts() == [("warm", "freezer-1", "threshold")]
    await harness.use_rules("")
    assert await harness.open_alerts() == []


async def test_no_rules_are_in_force_when_there_never_were_any(database: Database, tmp_path: Path) -> None:
    keeper = await opened(tmp_path / "nowhere", database.pool)
    assert names(keeper) == []
    assert [str(problem) for problem in keeper.problems] == [
        f"{tmp_path / 'nowhere'}: this folder of rules cannot be read: No such file or directory"
    ]


async def test_rule_is_known_since_its_return_when_it_was_removed_in_between(
    database: Database, tmp_path: Path
) -> None:
    write(tmp_path, "warm", "cold")
    keeper = await opened(tmp_path, database.pool)
    first = dict(keeper.since)
    write(tmp_path, "cold")
    await keeper.reload(database.pool)
    write(tmp_path, "warm", "cold")
    await keeper.reload(database.pool)
    assert keeper.since["cold"] == first["cold"]
    assert keeper.since["warm"] > first["warm"]


@pytest.mark.usefixtures("quick")
async def test_files_are_read_again_when_they_have_not_changed_for_a_while(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_keeper, "SETTLE_S", 1.0)
    write(tmp_path, "warm")
    keeper = await opened(tmp_path, database.pool)
    async with watching(keeper, database.pool):
        accepted_at = await database.pool.fetchval("SELECT accepted_at FROM rule_set")
        for number in range(8):
            write(tmp_path, f"warm-{number}")
            write(tmp_path, f"more-{number}", file="more.yml")
            await asyncio.sleep(0.05)
            assert names(keeper) == ["warm"]
        await wait_until(lambda: names(keeper) == ["more-7", "warm-7"])
        (tmp_path / "more.yml").unlink()
        await wait_until(lambda: names(keeper) == ["warm-7"])
        write_invalid(tmp_path)
        await wait_until(lambda: bool(keeper.problems))
        assert names(keeper) == ["warm-7"]
    assert await database.pool.fetchval("SELECT accepted_at FROM rule_set") > accepted_at


@pytest.mark.usefixtures("quick")
async def test_files_are_read_again_when_they_changed_before_the_watch_began(
    database: Database, tmp_path: Path
) -> None:
    write(tmp_path, "warm")
    keeper = await opened(tmp_path, database.pool)
    write(tmp_path, "cold")
    async with watching(keeper, database.pool):
        await wait_until(lambda: names(keeper) == ["cold"])


@pytest.mark.usefixtures("quick")
async def test_files_are_read_again_when_a_channel_changed_in_its_own_folder(
    database: Database, tmp_path: Path
) -> None:
    def write_channel(name: str) -> None:
        text = f'version: 1\nchannels:\n  {name}: {{type: webhook, url: "http://127.0.0.1:1/"}}\n'
        (tmp_path / "channels" / "rules.yml").write_text(text)

    (tmp_path / "rules").mkdir()
    (tmp_path / "channels").mkdir()
    write(tmp_path / "rules", "warm")
    write_channel("duty")
    settings = Settings(rules_dir=tmp_path / "rules", channels_dir=tmp_path / "channels")
    keeper = make_rule_keeper(settings, Metrics())
    await keeper.open(database.pool)
    assert [channel.name for channel in keeper.rules.channels] == ["duty"]
    async with watching(keeper, database.pool):
        write_channel("pager")
        await wait_until(lambda: [channel.name for channel in keeper.rules.channels] == ["pager"])


@pytest.mark.usefixtures("quick")
async def test_files_are_read_again_when_the_database_had_failed(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "warm")
    keeper = await opened(tmp_path, database.pool)
    await database.pool.execute("ALTER TABLE rule_set RENAME TO away")
    write(tmp_path, "cold")
    with pytest.raises(asyncpg.UndefinedTableError):
        await keeper.watch(database.pool, lambda: True)
    assert names(keeper) == ["warm"]
    await database.pool.execute("ALTER TABLE away RENAME TO rule_set")
    async with watching(keeper, database.pool):
        await wait_until(lambda: names(keeper) == ["cold"])


async def test_files_are_read_again_at_once_when_asked(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_keeper, "SETTLE_S", 3_600.0)
    write(tmp_path, "warm")
    keeper = await opened(tmp_path, database.pool)
    async with watching(keeper, database.pool):
        write(tmp_path, "cold")
        keeper.reload_soon()
        await wait_until(lambda: names(keeper) == ["cold"])


@pytest.mark.usefixtures("quick")
async def test_hidden_and_dangling_files_are_ignored_when_editors_make_them(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "warm")
    keeper = await opened(tmp_path, database.pool)
    (tmp_path / ".#rules.yml").symlink_to("anna@host.1234")
    async with watching(keeper, database.pool):
        write(tmp_path, "cold")
        await wait_until(lambda: names(keeper) == ["cold"])
    assert keeper.problems == ()


def metric(server: Server, name: str) -> str:
    lines = server.worker.metrics.render().decode().splitlines()
    return next(line for line in lines if line.startswith(f"{name} "))


async def test_problems_show_in_health_metrics_and_rules_when_a_file_is_invalid(
    database: Database, tmp_path: Path
) -> None:
    write(tmp_path, "warm")
    settings = Settings(database_url=database.dsn, api_key=API_KEY, rules_dir=tmp_path)
    async with running_server(settings) as server:
        assert metric(server, "tidegauge_rule_problems") == "tidegauge_rule_problems 0.0"
        assert "rule_problems" not in await server.get("/health/ready")
        write_invalid(tmp_path)
        await server.worker.alerting.keeper.reload(database.pool)
        rules = await server.get("/api/v1/rules")
        ready = await server.get("/health/ready")
        assert [item["name"] for item in rules["items"]] == ["warm"]  # type: ignore[attr-defined]
        assert rules["problems"] == ready["rule_problems"]
        assert f'{tmp_path}/rules.yml:4:5: unknown key "sensor"' in str(rules["problems"])
        assert metric(server, "tidegauge_rule_problems") != "tidegauge_rule_problems 0.0"


async def test_hangup_reads_the_rules_again_and_does_not_end_the_server(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    write(folder, "warm")
    unchanged = (folder / "rules.yml").stat().st_mtime_ns
    dsn, rules = database.dsn, str(folder)
    port = free_port()
    arguments = ("work", f"--port={port}")
    async with processes.running(
        tmp_path / "worker", *arguments, port=port, DATABASE_URL=dsn, RULES_DIR=rules
    ) as server:
        for name in ("cold", "damp"):
            # The file has the same size and time of change as before, so only a hangup makes the server read it.
            write(folder, name)
            os.utime(folder / "rules.yml", ns=(unchanged, unchanged))
            server.process.send_signal(signal.SIGHUP)
            await until(database.pool, "SELECT rules #>> '{rules,0,name}' = $1 FROM rule_set", name)
        assert await server.end(signal.SIGTERM) == 0


async def test_problem_with_a_nul_is_stored_when_the_rules_are_opened(database: Database, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text('version: 1\nrules:\n  - name: "a\\0b"\n')
    keeper = await opened(tmp_path, database.pool)
    assert any("\0" in str(problem) for problem in keeper.problems)
    stored = await database.pool.fetch("SELECT message FROM rule_problem ORDER BY position")
    assert [row["message"] for row in stored] == [str(problem).replace("\0", "�") for problem in keeper.problems]
