"""The calls that the scheduler makes on `Alerting`, with failures in between."""

from pathlib import Path
from random import Random

import asyncpg
import pytest
import structlog

from app.alerting.rules.in_force import read_status
from app.alerting.service import Alerting
from app.db.lease import LeaseLostError
from app.metrics import Metrics
from app.notify.dispatch import dispatcher
from app.settings import Settings
from tests.alerting.delivery_checks import check_arrived, check_told
from tests.alerting.harness import WARM, AlertingHarness
from tests.conftest import Database
from tests.receivers import RESETS_AFTER, RESETS_BEFORE, answers


async def test_tick_evaluates_and_records_it_when_there_are_new_readings(
    harness: AlertingHarness,
) -> None:
    await harness.use_rules(WARM)
    await harness.tick()
    before = (await read_status(harness.pool)).last_evaluation
    await harness.upload("freezer-1", (1, 9))
    await harness.tick()
    first = (await read_status(harness.pool)).last_evaluation
    assert before is None
    assert first is not None
    assert (first.pairs, first.replayed) == (1, 1)
    assert first.seconds > 0
    await harness.tick()
    assert (await read_status(harness.pool)).last_evaluation == first
    assert await harness.pool.fetchval("SELECT count(*) FROM dirty") == 0


async def test_tick_commits_nothing_when_planning_fails(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (2, 9))
    await harness.pool.execute("ALTER TABLE notification RENAME TO away")
    with pytest.raises(asyncpg.UndefinedTableError):
        await harness.alerting.tick(harness.pool, 1)
    counts = (
        "SELECT (SELECT count(*) FROM dirty), (SELECT count(*) FROM alert_episode), (SELECT count(*) FROM alert_state)"
    )
    assert tuple(await harness.pool.fetchrow(counts) or ()) == (1, 0, 0)
    await harness.pool.execute("ALTER TABLE away RENAME TO notification")
    await harness.upload("freezer-1", (1, 6))
    await harness.tick()
    assert tuple(await harness.pool.fetchrow(counts) or ()) == (0, 1, 1)


async def test_tick_uses_the_stored_states_when_another_process_was_leader_meanwhile(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (5, 6))
    await harness.tick()
    other = Alerting(Settings(rules_dir=harness.folder), Metrics())
    await other.keeper.open(harness.pool)
    await harness.upload("freezer-1", (3, 9))
    await other.tick(harness.pool, 1)
    await harness.upload("freezer-1", (1, 6))
    await harness.alerting.tick(harness.pool, 2)
    ended = await harness.pool.fetch("SELECT resolved_at IS NOT NULL AS is_over FROM alert_episode")
    assert [tuple(row) for row in ended] == [(True,)]


async def test_on_due_is_called_after_the_commit_when_a_message_is_due(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    calls: list[str] = []
    harness.alerting.on_due = lambda: calls.append("due")
    await harness.alerting.tick(harness.pool, 1)
    assert calls == []
    await harness.upload("freezer-1", (1, 13))
    await harness.alerting.tick(harness.pool, 1)
    assert calls[0] == "due"
    await harness.deliver()
    assert harness.messages() == ["1 critical: warm · quay [freezer-1]"]


def make_alerting(folder: Path, **variables: str) -> Alerting:
    return Alerting(Settings(rules_dir=folder, channel_variables=variables), Metrics())


CHANNELS = """
version: 1
channels:
  first: {{type: webhook, url: "http://127.0.0.1:1/first"}}
  hidden: {{type: webhook, url: "${{CHANNEL_HIDDEN}}"}}
  last: {{type: webhook, url: "http://127.0.0.1:1/last"}}
rules:
  - name: warm
    sensors: {{metric: temperature}}
    levels: {{warning: {{above: 8}}}}
    notify: [{notify}]
"""


async def test_channel_is_left_out_when_its_secret_is_missing_after_a_restart(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "rules.yml").write_text(CHANNELS.format(notify="last, hidden"))
    before = make_alerting(tmp_path, CHANNEL_HIDDEN="http://127.0.0.1:1/hidden")
    await before.keeper.open(database.pool)
    assert sorted(before.channels()) == ["first", "hidden", "last"]
    after = make_alerting(tmp_path)
    with structlog.testing.capture_logs() as logs:
        await after.keeper.open(database.pool)
        assert sorted(after.channels()) == sorted(after.channels()) == ["first", "last"]
    assert [line["channel"] for line in logs if line["event"] == "channel_unusable"] == ["hidden"]
    assert "127.0.0.1" not in str([line for line in logs if line["event"] == "channel_unusable"])


async def test_channel_is_left_out_when_the_rules_in_force_let_it_use_a_secret_of_the_server(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "rules.yml").write_text(CHANNELS.format(notify="last, hidden"))
    before = make_alerting(tmp_path, CHANNEL_HIDDEN="http://127.0.0.1:1/hidden")
    await before.keeper.open(database.pool)
    # As a version stored them that let channels use every variable.
    await database.pool.execute("UPDATE rule_set SET rules = replace(rules::text, 'CHANNEL_HIDDEN', 'API_KEY')::jsonb")
    (tmp_path / "rules.yml").unlink()
    after = make_alerting(tmp_path, API_KEY="http://127.0.0.1:1/hidden")
    with structlog.testing.capture_logs() as logs:
        await after.keeper.open(database.pool)
        assert sorted(after.channels()) == ["first", "last"]
    (line,) = [line for line in logs if line["event"] == "channel_unusable"]
    assert line["error"].startswith('channels may not use "${API_KEY}": set CHANNEL_API_KEY in the environment')


async def test_fallbacks_list_channels_of_the_same_rules_before_all_others(database: Database, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(CHANNELS.format(notify="last, hidden"))
    alerting = make_alerting(tmp_path, CHANNEL_HIDDEN="http://127.0.0.1:1/hidden")
    await alerting.keeper.open(database.pool)
    assert alerting.fallbacks("hidden") == ["last", "first"]
    assert alerting.fallbacks("first") == ["hidden", "last"]


async def test_nobody_is_silent_when_no_api_process_could_take_uploads(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM + "    no_data: {after: 30m, then: alert}\n")
    await harness.upload("freezer-1", (0, 7))
    await harness.tick()
    await harness.advance(31)
    await harness.pool.execute("UPDATE ingest_state SET beat_at = now() - INTERVAL '31 seconds'")
    await harness.check_no_data()
    assert await harness.open_alerts() == []
    await harness.pool.execute("UPDATE ingest_state SET beat_at = now() - INTERVAL '20 seconds'")
    await harness.check_no_data()
    assert await harness.open_alerts() == [("warm", "freezer-1", "no_data")]


async def test_tick_changes_nothing_when_another_process_has_taken_the_lease(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (3, 9))
    await harness.pool.execute("INSERT INTO lease (number, term, session_pid) VALUES (1, 2, 0)")
    with pytest.raises(LeaseLostError, match="Term 2 has begun; this process evaluated in term 1"):
        await harness.alerting.tick(harness.pool, 1)
    assert await harness.open_alerts() == []
    assert await harness.pool.fetchval("SELECT count(*) FROM dirty") == 1
    await harness.alerting.tick(harness.pool, 2)
    assert await harness.open_alerts() == [("warm", "freezer-1", "threshold")]


async def test_tick_uses_the_rules_that_another_process_has_accepted(
    harness: AlertingHarness, tmp_path_factory: pytest.TempPathFactory
) -> None:
    await harness.use_rules(WARM)
    folder = tmp_path_factory.mktemp("rules")
    (folder / "rules.yml").write_text(f"version: 1\nrules:{WARM}".replace("notify: [ops]", "").replace("8", "11"))
    await Alerting(Settings(rules_dir=folder), Metrics()).keeper.open(harness.pool)
    await harness.upload("freezer-1", (3, 9))
    await harness.tick()
    assert await harness.open_alerts() == []


async def test_alert_fires_again_when_its_rule_has_left_out_the_series_for_a_while(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (5, 9))
    await harness.tick()
    assert await harness.open_alerts() == [("warm", "freezer-1", "threshold")]
    await harness.use_rules(WARM.replace("{metric: temperature}", '{metric: temperature, id: "other-*"}'))
    assert await harness.open_alerts() == []
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (3, 9))
    await harness.tick()
    assert await harness.open_alerts() == [("warm", "freezer-1", "threshold")]


LEVEL_CHOICES = (
    "levels: {warning: {above: 8, for: 3m}, critical: {above: 12}}\n    clear: {below: 7, for: 2m}",
    "levels: {warning: {above: 8}, critical: {above: 11, notify: [duty]}}",
    "levels: {error: {above: 9, for: 1m}}\n    clear: {below: 9}\n    late_data: {notify: normal}",
)


def random_rules(rng: Random) -> str:
    then = rng.choice(("alert", "clear", "keep"))
    return f"""
  - name: warm
    sensors: {{metric: temperature}}
    {rng.choice(LEVEL_CHOICES)}
    group_by: [site]
    notify: [{rng.choice(("ops", "ops, duty"))}]
    remind_every: 1h
    no_data: {{after: 40m, then: {then}}}
"""


class RandomRun:
    """Random steps on a harness; the same steps for the same seed."""

    def __init__(self, harness: AlertingHarness, seed: int) -> None:
        self.harness = harness
        self.rng = Random(seed)

    async def step(self) -> None:
        await self.rng.choice(
            (
                *[self.upload] * 8,
                *[self.tick] * 6,
                *[self.advance] * 3,
                self.check_no_data,
                self.silence,
                self.delete_silences,
                self.ack,
            )
        )()
        if self.rng.random() < 0.05:
            await self.harness.use_rules(random_rules(self.rng))
        if self.rng.random() < 0.15:
            fault = self.rng.choice((answers(400), answers(503), RESETS_BEFORE, RESETS_AFTER))
            self.harness.receiver.fail_next(fault)

    async def upload(self) -> None:
        latest = self.rng.choice((0.0, 0.0, 0.0, 10.0, 40.0))
        readings = [
            (latest + self.rng.randrange(40) / 4, self.rng.choice((5.0, 6.5, 7.5, 8.5, 9.5, 13.0)))
            for _ in range(self.rng.randint(1, 6))
        ]
        await self.harness.upload(f"freezer-{self.rng.randrange(4)}", *readings)

    async def tick(self) -> None:
        await self.harness.alerting.tick(self.harness.pool, 1)

    async def advance(self) -> None:
        await self.harness.advance(self.rng.choice((0.2, 0.6, 2.0, 6.0, 70.0)))

    async def check_no_data(self) -> None:
        await self.harness.alerting.watch_silence(self.harness.pool, 1)

    async def silence(self) -> None:
        matchers = self.rng.choice(({"sensor": "freezer-1"}, {"level": "critical"}, {"rule": "warm"}))
        await self.harness.pool.execute(
            "INSERT INTO silence (matchers, starts_at, ends_at, author) VALUES ($1, now(), now() + '20 min', 'x')",
            matchers,
        )

    async def delete_silences(self) -> None:
        await self.harness.pool.execute("DELETE FROM silence")

    async def ack(self) -> None:
        await self.harness.pool.execute(
            "UPDATE alert_episode SET acked_by = 'x', acked_at = now(), acked_level = level WHERE resolved_at IS NULL"
        )

    async def finish(self) -> None:
        """Stop all faults and silences, then advance until every message has been sent."""
        self.harness.receiver._faults.clear()
        await self.delete_silences()
        for _ in range(4):
            await self.harness.check_no_data()
            await self.harness.advance(11)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_messages_match_the_stored_episodes_when_steps_and_faults_are_random(
    harness: AlertingHarness, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(dispatcher, "FIRST_BACKOFF_S", 0.01)
    run = RandomRun(harness, seed)
    await harness.use_rules(random_rules(run.rng))
    for _ in range(60):
        await run.step()
    await run.finish()
    await check_told(harness.pool)
    await check_arrived(harness.pool, harness.receiver.accepted)
    assert harness.receiver.accepted
