"""Alerting as a whole: what one process calls every second, through whatever happens."""

from pathlib import Path
from random import Random

import asyncpg
import pytest
import structlog

from app.alerting import service
from app.alerting.service import Alerting
from app.clock import SECOND_US, now_us
from app.metrics import Metrics
from app.notify import dispatcher
from app.settings import Settings
from tests.alerting.office import WARM, Office
from tests.alerting.truth import check_arrived, check_told
from tests.conftest import Database
from tests.receivers import RESETS_AFTER, RESETS_BEFORE, answers


async def test_tick_evaluates_what_is_new_and_says_how_long_it_took(office: Office) -> None:
    await office.use(WARM)
    await office.tick()
    before = office.alerting.last_evaluation
    await office.upload("freezer-1", (1, 9))
    await office.tick()
    first = office.alerting.last_evaluation
    assert before is None
    assert first is not None
    assert (first.pairs, first.replayed) == (1, 1)
    assert first.seconds > 0
    await office.tick()
    assert office.alerting.last_evaluation is first
    assert await office.pool.fetchval("SELECT count(*) FROM dirty") == 0


async def test_tick_changes_nothing_when_it_fails(office: Office) -> None:
    await office.use(WARM)
    await office.upload("freezer-1", (2, 9))
    await office.pool.execute("ALTER TABLE notification RENAME TO away")
    with pytest.raises(asyncpg.UndefinedTableError):
        await office.alerting.tick(office.pool, 1)
    counts = (
        "SELECT (SELECT count(*) FROM dirty), (SELECT count(*) FROM alert_episode), (SELECT count(*) FROM alert_state)"
    )
    assert tuple(await office.pool.fetchrow(counts) or ()) == (1, 0, 0)
    await office.pool.execute("ALTER TABLE away RENAME TO notification")
    await office.upload("freezer-1", (1, 6))
    await office.tick()
    assert tuple(await office.pool.fetchrow(counts) or ()) == (0, 1, 1)


async def test_leader_goes_by_what_is_stored_when_another_led_meanwhile(office: Office) -> None:
    await office.use(WARM)
    await office.upload("freezer-1", (5, 6))
    await office.tick()
    other = Alerting(Settings(rules_dir=office.folder), Metrics())
    await other.keeper.open(office.pool)
    await office.upload("freezer-1", (3, 9))
    await other.tick(office.pool, 1)
    await office.upload("freezer-1", (1, 6))
    await office.alerting.tick(office.pool, 2)
    ended = await office.pool.fetch("SELECT resolved_at IS NOT NULL AS is_over FROM alert_episode")
    assert [tuple(row) for row in ended] == [(True,)]


async def test_dispatcher_is_called_once_the_outbox_is_committed(office: Office) -> None:
    await office.use(WARM)
    calls: list[str] = []
    office.alerting.on_due = lambda: calls.append("due")
    await office.alerting.tick(office.pool, 1)
    assert calls == []
    await office.upload("freezer-1", (1, 13))
    await office.alerting.tick(office.pool, 1)
    assert calls[0] == "due"
    await office.deliver()
    assert office.heard() == ["warm · quay: firing [freezer-1]"]


def make_alerting(folder: Path, **environment: str) -> Alerting:
    return Alerting(Settings(rules_dir=folder, environment=environment), Metrics())


CHANNELS = """
version: 1
channels:
  first: {{type: webhook, url: "http://127.0.0.1:1/first"}}
  hidden: {{type: webhook, url: "${{HIDDEN_URL}}"}}
  last: {{type: webhook, url: "http://127.0.0.1:1/last"}}
rules:
  - name: warm
    sensors: {{metric: temperature}}
    levels: {{warning: {{above: 8}}}}
    notify: [{notify}]
"""


async def test_channel_is_left_out_when_its_secret_is_gone_after_a_restart(database: Database, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(CHANNELS.format(notify="last, hidden"))
    before = make_alerting(tmp_path, HIDDEN_URL="http://127.0.0.1:1/hidden")
    await before.keeper.open(database.pool)
    assert sorted(before.channels()) == ["first", "hidden", "last"]
    after = make_alerting(tmp_path)
    with structlog.testing.capture_logs() as logs:
        await after.keeper.open(database.pool)
        assert sorted(after.channels()) == sorted(after.channels()) == ["first", "last"]
    assert [line["channel"] for line in logs if line["event"] == "channel_unusable"] == ["hidden"]
    assert "127.0.0.1" not in str([line for line in logs if line["event"] == "channel_unusable"])


async def test_fallbacks_are_those_told_of_the_same_before_all_others(database: Database, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(CHANNELS.format(notify="last, hidden"))
    alerting = make_alerting(tmp_path, HIDDEN_URL="http://127.0.0.1:1/hidden")
    await alerting.keeper.open(database.pool)
    assert alerting.fallbacks("hidden") == ["last", "first"]
    assert alerting.fallbacks("first") == ["hidden", "last"]


async def test_silence_is_counted_anew_when_no_tick_came_for_a_while(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.use(WARM + "    no_data: {after: 30m, then: alert}\n")
    await office.upload("freezer-1", (0, 7))
    await office.tick()
    await office.wait(31)
    asleep_us = now_us() + 40 * SECOND_US
    monkeypatch.setattr(service, "now_us", lambda: asleep_us)
    await office.watch()
    assert await office.open_alerts() == []
    assert office.alerting.ingest_since_us == asleep_us
    monkeypatch.undo()


CHOICES = (
    "levels: {warning: {above: 8, for: 3m}, critical: {above: 12}}\n    clear: {below: 7, for: 2m}",
    "levels: {warning: {above: 8}, critical: {above: 11, notify: [duty]}}",
    "levels: {error: {above: 9, for: 1m}}\n    clear: {below: 9}\n    late_data: {notify: normal}",
)


def rules_of(rng: Random) -> str:
    silence = rng.choice(("alert", "clear", "keep"))
    return f"""
  - name: warm
    sensors: {{metric: temperature}}
    {rng.choice(CHOICES)}
    group_by: [site]
    notify: [{rng.choice(("ops", "ops, duty"))}]
    remind_every: 1h
    no_data: {{after: 40m, then: {silence}}}
"""


class Life:
    """A random afternoon of an office; the same for the same seed."""

    def __init__(self, office: Office, seed: int) -> None:
        self.office = office
        self.rng = Random(seed)

    async def step(self) -> None:
        await self.rng.choice(
            (*[self.upload] * 8, *[self.tick] * 6, *[self.wait] * 3, self.watch, self.silence, self.unsilence, self.ack)
        )()
        if self.rng.random() < 0.05:
            await self.office.use(rules_of(self.rng))
        if self.rng.random() < 0.15:
            fault = self.rng.choice((answers(400), answers(503), RESETS_BEFORE, RESETS_AFTER))
            self.office.receiver.fail_next(fault)

    async def upload(self) -> None:
        latest = self.rng.choice((0.0, 0.0, 0.0, 10.0, 40.0))
        readings = [
            (latest + self.rng.randrange(40) / 4, self.rng.choice((5.0, 6.5, 7.5, 8.5, 9.5, 13.0)))
            for _ in range(self.rng.randint(1, 6))
        ]
        await self.office.upload(f"freezer-{self.rng.randrange(4)}", *readings)

    async def tick(self) -> None:
        await self.office.alerting.tick(self.office.pool, 1)

    async def wait(self) -> None:
        await self.office.wait(self.rng.choice((0.2, 0.6, 2.0, 6.0, 70.0)))

    async def watch(self) -> None:
        await self.office.alerting.watch_silence(self.office.pool)

    async def silence(self) -> None:
        matchers = self.rng.choice(({"sensor": "freezer-1"}, {"level": "critical"}, {"rule": "warm"}))
        await self.office.pool.execute(
            "INSERT INTO silence (matchers, starts_at, ends_at, author) VALUES ($1, now(), now() + '20 min', 'x')",
            matchers,
        )

    async def unsilence(self) -> None:
        await self.office.pool.execute("DELETE FROM silence")

    async def ack(self) -> None:
        await self.office.pool.execute(
            "UPDATE alert_episode SET acked_by = 'x', acked_at = now(), acked_level = level WHERE resolved_at IS NULL"
        )

    async def calm_down(self) -> None:
        """Let everything be told that there is to tell."""
        self.office.receiver._faults.clear()
        await self.unsilence()
        for _ in range(4):
            await self.office.watch()
            await self.office.wait(11)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_all_that_is_told_ends_in_the_truth_whatever_happens(
    office: Office, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(dispatcher, "FIRST_BACKOFF_S", 0.01)
    life = Life(office, seed)
    await office.use(rules_of(life.rng))
    for _ in range(60):
        await life.step()
    await life.calm_down()
    await check_told(office.pool)
    await check_arrived(office.pool, office.receiver.accepted)
    assert office.receiver.accepted
