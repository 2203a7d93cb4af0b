"""Rules that hold values or look at a second metric, and rules that change, on a real database."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.alerting.evaluation.timed.horizon import Uploads, horizon_of
from app.clock import MINUTE_US, SECOND_US, from_us, now, now_us
from app.ingest.flush.batch import Batch
from app.ingest.flush.transaction import write_flush
from app.ingest.series.registry import SeriesRegistry
from app.ingest.uploads.readings import Readings
from app.ingest.uploads.receipt import Rejected
from app.ingest.uploads.upload import Upload
from app.local_times import format_time
from app.model import Reading
from tests.alerting.harness import _KEY, AlertingHarness, running_harness
from tests.conftest import Database

M = MINUTE_US
HOLDING = """
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8, for: 10m}}
    max_gap: 1h
    holds: true
    notify: []
"""
WITH_DOOR = """
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8, for: 5m}}
    when: {metric: door, equals: 0, max_age: 1h, same: [room]}
    notify: []
"""
PLAIN = """
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8, for: 2m}}
    notify: []
"""


class TimedHarness:
    """Uploads of any metric, and the episodes in minutes after the start."""

    def __init__(self, harness: AlertingHarness) -> None:
        self.harness = harness
        self.start_us = now_us() - 30 * M
        self._registry = SeriesRegistry()

    async def upload(
        self, sensor: str, metric: str, *readings: tuple[float, float], tags: Mapping[str, str] | None = None
    ) -> None:
        """Store readings as one flush; each is (minutes after the start, value)."""
        taken = [
            Reading(sensor, self.start_us + round(minute * M), {metric: value}, dict(tags or {}))
            for minute, value in readings
        ]
        upload = Upload(Readings.of(taken), Rejected(), now_us(), _KEY, "hall")
        async with self.harness.pool.acquire() as connection:
            await self._registry.register(connection, [upload])
            await self._registry.describe(connection, [upload])
            await write_flush(connection, Batch([upload], self._registry.series_of), self._registry, by_copy=False)

    async def evaluate(self) -> None:
        await self.harness.alerting.tick(self.harness.pool, 1)

    async def pass_minutes(self, minutes: float) -> None:
        """Let evaluations see a time that is this much after the start."""
        await self.harness.pool.execute(
            "UPDATE evaluation_clock SET seen = from_us($1)", self.start_us + round(minutes * M)
        )

    async def episodes(self, rule: str = "warm") -> list[tuple[Any, ...]]:
        """Return (started, fired, resolved, reason) of each episode, by the time at which it fired."""
        rows = await self.harness.pool.fetch(
            """SELECT to_us(started_at) AS started, to_us(fired_at) AS fired, to_us(resolved_at) AS resolved, reason
                 FROM alert_episode WHERE rule = $1 ORDER BY fired_at, id""",
            rule,
        )
        return [(*(self._minute(row[key]) for key in ("started", "fired", "resolved")), row["reason"]) for row in rows]

    def restart(self) -> None:
        """Let another process evaluate."""
        self.harness.alerting._progress.forget()

    def _minute(self, us: int | None) -> float | None:
        return None if us is None else round((us - self.start_us) / M, 6)


@pytest.fixture
async def timed(database: Database, tmp_path: Path) -> AsyncIterator[TimedHarness]:
    async with running_harness(database, tmp_path) as harness:
        yield TimedHarness(harness)


async def test_held_value_fires_after_its_time_when_no_further_reading_comes(timed: TimedHarness) -> None:
    await timed.harness.use_rules(HOLDING)
    await timed.upload("freezer-1", "temperature", (0, 4), (3, 9))
    await timed.evaluate()
    assert await timed.episodes() == [(3, 13, None, None)]


async def test_held_value_fires_when_it_comes_due_although_nothing_is_uploaded(timed: TimedHarness) -> None:
    await timed.harness.use_rules(HOLDING)
    await timed.upload("freezer-1", "temperature", (25, 9))
    await timed.evaluate()
    assert await timed.episodes() == []
    due = await timed.harness.pool.fetchval("SELECT to_us(next_due) FROM alert_state")
    assert due == timed.start_us + 35 * M
    timed.restart()
    await timed.pass_minutes(35.01)
    await timed.evaluate()
    assert await timed.episodes() == []  # it settles for two seconds
    await timed.pass_minutes(35.04)
    await timed.evaluate()
    assert await timed.episodes() == [(25, 35, None, None)]
    assert await timed.harness.pool.fetchval("SELECT next_due FROM alert_state") is None


async def test_late_reading_inside_a_held_span_takes_the_episode_back(timed: TimedHarness) -> None:
    await timed.harness.use_rules(HOLDING)
    await timed.upload("freezer-1", "temperature", (3, 9))
    await timed.evaluate()
    assert await timed.episodes() == [(3, 13, None, None)]
    await timed.upload("freezer-1", "temperature", (8, 5))
    await timed.evaluate()
    assert await timed.episodes() == []


async def test_values_are_held_up_to_the_usual_lateness_of_the_gateway(timed: TimedHarness) -> None:
    await timed.harness.use_rules(HOLDING)
    await timed.harness.pool.execute(
        """INSERT INTO gateway (api_key, name, first_upload_at, last_upload_at, latenesses_s)
           VALUES ('test', 'hall', now() - INTERVAL '1 day', now(), '{600,650,590,30000}')"""
    )
    await timed.harness.pool.execute("UPDATE ingest_state SET since = now() - INTERVAL '1 day'")
    await timed.upload("freezer-1", "temperature", (12, 9))
    await timed.evaluate()
    assert await timed.episodes() == []  # 22 minutes after the start is less than ten minutes ago
    await timed.pass_minutes(32.1)
    await timed.evaluate()
    assert await timed.episodes() == [(12, 22, None, None)]


@pytest.mark.parametrize(
    ("uploads", "since_us", "horizon_us"),
    [
        (None, 0, 998 * SECOND_US),
        (Uploads(990 * SECOND_US), 0, 998 * SECOND_US),
        (Uploads(990 * SECOND_US, (5.0, 7.0, 900.0)), 0, 994 * SECOND_US),
        (Uploads(990 * SECOND_US, (0.1, 0.1)), 0, 998 * SECOND_US),
        (Uploads(500 * SECOND_US, (5.0,)), 950 * SECOND_US, 495 * SECOND_US),
        (Uploads(960 * SECOND_US, (5.0,)), 950 * SECOND_US, 995 * SECOND_US),
        (Uploads(500 * SECOND_US, (5.0,)), 940 * SECOND_US, 995 * SECOND_US),
    ],
    ids=["no gateway", "unknown", "without what was late", "at least 2 s", "after a break", "back", "away for long"],
)
def test_horizon_is_now_less_the_usual_lateness(uploads: Uploads | None, since_us: int, horizon_us: int) -> None:
    assert horizon_of(uploads, 60 * SECOND_US, 1_000 * SECOND_US, since_us) == horizon_us


async def test_level_counts_only_while_the_second_metric_allows_it(timed: TimedHarness) -> None:
    await timed.harness.use_rules(WITH_DOOR)
    await timed.upload("door-1", "door", (0, 1), (8, 0), tags={"room": "a"})
    await timed.upload("freezer-1", "temperature", *((minute, 9) for minute in range(20)), tags={"room": "a"})
    await timed.upload("freezer-2", "temperature", *((minute, 9) for minute in range(20)), tags={"room": "b"})
    await timed.evaluate()
    assert await timed.episodes() == [(0, 5, None, None), (8, 13, None, None)]


async def test_late_reading_of_a_companion_moves_the_episode(timed: TimedHarness) -> None:
    await timed.harness.use_rules(WITH_DOOR)
    await timed.upload("freezer-1", "temperature", *((minute, 9) for minute in range(20)), tags={"room": "a"})
    await timed.upload("door-1", "door", (0, 0), tags={"room": "a"})
    await timed.evaluate()
    assert await timed.episodes() == [(0, 5, None, None)]
    await timed.upload("door-1", "door", (3.5, 1), (3.6, 0), tags={"room": "a"})
    await timed.evaluate()
    assert await timed.episodes() == [(4, 9, None, None)]


async def test_new_companion_begins_a_new_era_in_which_the_newest_reading_is_judged_at_once(
    timed: TimedHarness,
) -> None:
    await timed.harness.use_rules(WITH_DOOR)
    await timed.upload("freezer-1", "temperature", *((minute, 9) for minute in range(20)), tags={"room": "a"})
    await timed.evaluate()
    assert await timed.episodes() == [(0, 5, None, None)]
    await timed.upload("door-1", "door", (1, 1), tags={"room": "a"})
    await timed.evaluate()
    assert await timed.episodes() == [(0, 5, 19, None)]


async def test_rule_whose_second_metric_has_too_many_series_says_so(timed: TimedHarness) -> None:
    await timed.harness.use_rules(WITH_DOOR)
    for number in range(9):
        await timed.upload(f"door-{number}", "door", (0, 1), tags={"room": "a"})
    await timed.upload("freezer-1", "temperature", *((minute, 9) for minute in range(20)), tags={"room": "a"})
    await timed.evaluate()
    warnings = await timed.harness.pool.fetchval("SELECT companion_warnings FROM worker_status")
    said = 'when: freezer-1 has 9 series of "door" with the same room; at most 8 are possible, so none is looked at'
    assert warnings == {"warm": said}
    assert await timed.episodes() == [(0, 5, None, None)]


async def test_changed_rule_is_judged_at_once_at_the_newest_reading(timed: TimedHarness) -> None:
    await timed.harness.use_rules(PLAIN)
    await timed.upload("freezer-1", "temperature", *((minute, 9) for minute in range(5)))
    await timed.evaluate()
    assert await timed.episodes() == [(0, 2, None, None)]
    await timed.harness.use_rules(PLAIN.replace("above: 8", "above: 10"))
    await timed.evaluate()
    assert await timed.episodes() == [(0, 2, 4, None)]
    await timed.harness.use_rules(PLAIN.replace("above: 8, for: 2m", "above: 7"))
    await timed.evaluate()
    assert await timed.episodes() == [(0, 2, 4, None), (4, 4, None, None)]


async def test_episode_that_fired_at_the_newest_reading_stays_open_when_the_rule_changes(timed: TimedHarness) -> None:
    await timed.harness.use_rules(PLAIN)
    await timed.upload("freezer-1", "temperature", (0, 9), (2, 9))
    await timed.evaluate()
    await timed.harness.use_rules(PLAIN.replace("for: 2m", "for: 3m"))
    timed.restart()
    await timed.evaluate()
    await timed.upload("freezer-1", "temperature", (3, 9), (1.5, 1))
    await timed.evaluate()
    assert await timed.episodes() == [(0, 2, None, None)]
    await timed.upload("freezer-1", "temperature", (4, 1))
    await timed.evaluate()
    assert await timed.episodes() == [(0, 2, 4, None)]


async def test_renamed_and_restored_rules_fire_at_once_while_the_value_is_past_the_limit(timed: TimedHarness) -> None:
    await timed.harness.use_rules(PLAIN)
    await timed.upload("freezer-1", "temperature", *((minute, 9) for minute in range(5)))
    await timed.evaluate()
    await timed.harness.use_rules(PLAIN.replace("name: warm", "name: hot"))
    await timed.evaluate()
    assert [reason for *_, reason in await timed.episodes()] == ["rule removed"]
    assert await timed.episodes("hot") == [(0, 2, None, None)]
    await timed.harness.use_rules(PLAIN)
    await timed.evaluate()
    assert [reason for *_, reason in await timed.episodes()] == ["rule removed", None]


async def test_tag_that_selects_an_override_is_a_change_that_is_judged_at_once(timed: TimedHarness) -> None:
    override = "    overrides: [{sensors: {tags: {room: b}}, levels: {warning: {above: 10}}}]\n"
    await timed.harness.use_rules(PLAIN + override)
    await timed.upload("freezer-1", "temperature", *((minute, 9) for minute in range(5)), tags={"room": "a"})
    await timed.evaluate()
    assert await timed.episodes() == [(0, 2, None, None)]
    await timed.harness.pool.execute("""UPDATE sensor SET tags = '{"room": "b"}'""")
    await timed.evaluate()
    assert await timed.episodes() == [(0, 2, 4, None)]


async def test_message_says_since_when_a_second_metric_is_not_known(timed: TimedHarness) -> None:
    levels = "{critical: {above: 8}}"
    await timed.harness.use_rules(f"""
  - name: warm
    sensors: {{metric: temperature}}
    levels: {levels}
    when:
      - {{metric: door, equals: 0, max_age: 10m, same: [room]}}
      - {{metric: pump, equals: 0, max_age: 10m, same: [room]}}
    timezone: Europe/Berlin
    notify: [ops]
""")
    await timed.upload("door-1", "door", (0, 0), tags={"room": "cold"})
    await timed.upload("freezer-1", "temperature", (29, 9), tags={"room": "cold"})
    await timed.harness.tick()
    unknown = format_time(from_us(timed.start_us + 10 * M), "Europe/Berlin", now())
    assert timed.harness.notes() == [
        f"door unknown since {unknown}, so the alert does without it\npump was never seen, so the alert does without it"
    ]


async def test_message_says_nothing_of_a_second_metric_that_is_known(timed: TimedHarness) -> None:
    await timed.harness.use_rules(
        WITH_DOOR.replace("warning: {above: 8, for: 5m}", "critical: {above: 8}").replace("[]", "[ops]")
    )
    await timed.upload("door-1", "door", (0, 0), tags={"room": "cold"})
    await timed.upload("freezer-1", "temperature", (29, 9), tags={"room": "cold"})
    await timed.harness.tick()
    assert timed.harness.notes() == [""]
