"""The promises, and the checks after a fault of acknowledged, stored, published and told readings and alerts."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from time import monotonic

import msgspec

from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.episodes.machine import Episode, Level, SeriesRule, Step
from app.alerting.episodes.samples import StoredReading, ValueOf
from app.clock import to_us
from tests.alerting.delivery_checks import check_arrived, check_told
from tests.alerting.oracle import oracle_episodes
from tests.conftest import wait_until
from tests.faults.gateways import Answer, Key
from tests.faults.installation import Installation
from tests.test_alert_journey import shift_wall_clocks

#: An upload is answered within this time, whatever happens.
UPLOAD_S = 30.0
#: So is a question for health.
HEALTH_S = 3.0
#: Health says that uploads fail, and that they succeed again, within these times.
UNREADY_WITHIN_S = 15.0
READY_WITHIN_S = 15.0
#: Uploads succeed again within this time after a fault is over.
BACK_WITHIN_S = 15.0
#: On a busy machine, the database may be too slow for this time.
BRIEFLY_S = 5.0
#: What a busy machine may add to each.
TOLERANCE_S = 2.0
#: The rule `high`, for the oracle.
HIGH = SeriesRule(ValueOf("last"), (Level("warning", Above(8)), Level("critical", Above(12))), Below(6))
_STORED = """
SELECT sensor.name, time, value
  FROM reading JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id
 WHERE time > now() - INTERVAL '30 days'
 ORDER BY time
"""
_EPISODES = """
SELECT sensor.name AS sensor, to_us(started_at) AS started_us, to_us(fired_at) AS fired_us,
       to_us(resolved_at) AS resolved_us, steps
  FROM alert_episode JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id
 WHERE rule = 'high' AND reason IS DISTINCT FROM 'retracted' AND merged_into IS NULL
 ORDER BY fired_at
"""
_NOTHING_WAITS = "SELECT NOT EXISTS (SELECT FROM notification WHERE state IN ('waiting', 'sending'))"
_UNTOLD = """
SELECT sensor.name, to_us(fired_at) FROM alert_episode AS episode
  JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id
 WHERE rule = 'high' AND reason IS DISTINCT FROM 'retracted' AND merged_into IS NULL
   AND NOT EXISTS (SELECT FROM alert_told WHERE episode_id = episode.id
                                            AND told = CASE WHEN resolved_at IS NULL THEN 'firing' ELSE 'resolved' END)
"""


class Row(msgspec.Struct):
    """A row of the table of faults: the effects seen from outside."""

    fault: str
    #: Numbers of answers by status while the fault lasted and until uploads succeeded again; `none`: no answer.
    statuses: dict[str, int] = {}
    slowest_answer_s: float = 0.0
    slowest_health_s: float = 0.0
    #: The longest time in which no upload of any gateway was acknowledged.
    gap_s: float = 0.0
    unready_after_s: float | None = None
    ready_after_s: float | None = None
    back_after_s: float | None = None
    #: None where a check failed before they were counted.
    lost: int | None = None
    doubled: int | None = None
    alerts: int = 0
    note: str = ""


class Fault:
    """The time of a fault."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.began = monotonic()
        self.ended = self.began

    def is_over(self) -> None:
        """Take note that the cause has gone."""
        self.ended = monotonic()


@contextmanager
def fault(name: str) -> Iterator[Fault]:
    """Time a fault until the block ends, and record its row in the file FAULTS_TABLE, also when a check fails."""
    timed = Fault(Row(name))
    try:
        yield timed
    finally:
        if table := os.environ.get("FAULTS_TABLE"):
            with Path(table).open("ab") as file:
                file.write(msgspec.json.encode(timed.row) + b"\n")


async def check_exact(site: Installation, timed: Fault) -> None:
    """Let the gateways finish; check that acknowledged readings were stored, published and received exactly once."""
    async with asyncio.timeout(90):
        await site.load.finish()
    acknowledged = site.load.acknowledged
    stored = await load_stored(site)
    published = await load_published(site)
    timed.row.lost = len(acknowledged.keys() - stored.keys())
    timed.row.doubled = published.total() - len(published)
    assert stored == acknowledged
    assert published == Counter(stored.keys())
    await wait_until(lambda: site.follower.seen.keys() >= stored.keys(), 40)
    assert site.follower.seen == Counter(stored.keys())
    assert (site.follower.resyncs, site.follower.omitted) == (0, 0)


async def check_alerts(site: Installation, timed: Fault) -> None:
    """Check after check_exact that the episodes are those of the oracle, and that each was told once."""
    await _until(site, "SELECT NOT EXISTS (SELECT FROM dirty)")
    found: dict[str, list[Episode]] = {}
    for row in await site.pool.fetch(_EPISODES):
        steps = tuple(Step(level, at_us) for level, at_us in row["steps"])
        episode = Episode(row["started_us"], row["fired_us"], row["resolved_us"], steps)
        found.setdefault(row["sensor"], []).append(episode)
    assert found == await expected_episodes(site)
    timed.row.alerts = sum(map(len, found.values()))
    assert timed.row.alerts > 0
    await _let_messages_be_sent(site)
    assert await site.pool.fetch(_UNTOLD) == []
    await check_told(site.pool)
    await check_arrived(site.pool, site.receiver.accepted)


def check_answers(site: Installation, timed: Fault, *, back_within_s: float = BACK_WITHIN_S) -> None:
    """Check each answer during the fault and until all gateways were back, and how soon they were."""
    row, answers = timed.row, site.load.answers
    backs = [
        next((answer.at for answer in gateway.answers if answer.status == 200 and answer.at > timed.ended), None)
        for gateway in site.load.gateways
    ]
    assert None not in backs
    back_at = max(back for back in backs if back is not None)
    row.back_after_s = round(back_at - timed.ended, 1)
    seen = [answer for answer in answers if timed.began <= answer.at <= back_at]
    row.statuses = dict(sorted(Counter(str(answer.status or "none") for answer in seen).items()))
    row.slowest_answer_s = round(max(answer.took_s for answer in seen), 1)
    row.gap_s = round(_longest_gap(answers), 1)
    for answer in answers:
        check_answer(answer)
    assert row.back_after_s <= back_within_s + TOLERANCE_S


def check_answer(answer: Answer) -> None:
    """Check that an upload is answered in time, and by nothing but 200, 503 with Retry-After, or no answer at all."""
    assert answer.took_s <= UPLOAD_S + TOLERANCE_S, answer
    assert answer.status in (200, 503, None), answer
    if answer.status == 200:
        assert json.loads(answer.body)["rejected_count"] == 0, answer
    if answer.status == 503:
        assert answer.retry_after is not None, answer
        assert 1 <= int(answer.retry_after) <= 60, answer


def check_health(site: Installation, timed: Fault, *, becomes_unready: bool | None = True) -> None:
    """Check that health was answered in time, and said that uploads failed when they did, and not otherwise.

    `becomes_unready` is None where either is true. Processes that were killed or frozen themselves answer nothing;
    those looks are left out.
    """
    looks = [look for probe in site.probes for look in probe.looks if look.status is not None]
    timed.row.slowest_health_s = round(max(look.took_s for look in looks), 1)
    assert timed.row.slowest_health_s <= HEALTH_S + TOLERANCE_S
    (probe, *_) = site.probes
    if becomes_unready:
        unready = probe.first(503, timed.began)
        assert unready is not None
        timed.row.unready_after_s = round(unready, 1)
        assert unready <= UNREADY_WITHIN_S + TOLERANCE_S
        is_late = (look for look in probe.looks if timed.began + UNREADY_WITHIN_S < look.at < timed.ended)
        assert all(look.status != 200 for look in is_late)
    elif becomes_unready is False:
        assert max(_unready_spans(site, timed)) <= BRIEFLY_S
    ready = probe.first(200, timed.ended)
    assert ready is not None
    timed.row.ready_after_s = round(ready, 1)
    assert ready <= READY_WITHIN_S + TOLERANCE_S


def _unready_spans(site: Installation, timed: Fault) -> list[float]:
    """Return how long each probe saw 503 without a break since a fault began; at least 0.0."""
    spans = [0.0]
    for probe in site.probes:
        first: float | None = None
        for look in probe.looks:
            if look.at < timed.began or look.status != 503:
                first = None
            else:
                first = look.at if first is None else first
                spans.append(look.at - first)
    return spans


def check_leaders(site: Installation) -> None:
    """Check that no worker called itself leader after another had done so, in answer to a later question.

    Answers of one round may lie as far apart as the machine is busy; the lease may have passed on between them.
    """
    rounds = [set(leaders) for _, leaders in site.leaders.rounds]
    assert [(one, next_one) for one, next_one in pairwise(rounds) if len(one & next_one) > 1] == []


async def until_ready(site: Installation, since: float) -> None:
    """Wait until every API has answered a question for health with 200 that was asked after a moment."""
    await wait_until(lambda: all(probe.first(200, since) is not None for probe in site.probes), 60)


async def load_stored(site: Installation) -> dict[Key, float]:
    """Load all readings; (series, time) is a key, so none can be stored twice."""
    rows = await site.pool.fetch(_STORED)
    return {(row["name"], _text(row["time"])): row["value"] for row in rows}


async def expected_episodes(site: Installation) -> dict[str, list[Episode]]:
    """Compute the episodes of each sensor from its stored readings."""
    series: dict[str, list[StoredReading]] = {}
    for row in await site.pool.fetch(_STORED):
        if row["name"].startswith("alarm-"):
            series.setdefault(row["name"], []).append((to_us(row["time"]), row["value"]))
    episodes = {sensor: oracle_episodes(HIGH, readings) for sensor, readings in series.items()}
    return {sensor: found for sensor, found in episodes.items() if found}


async def load_published(site: Installation) -> Counter[Key]:
    """Count how often each reading is in the live feed."""
    rows = await site.pool.fetch("SELECT payload FROM feed WHERE kind = 'readings'")
    return Counter(
        (reading["sensor"], reading["time"]) for row in rows for reading in json.loads(row["payload"])["readings"]
    )


async def _let_messages_be_sent(site: Installation) -> None:
    """Let time pass in the database until every message has been sent."""
    async with asyncio.timeout(90):
        while await site.pool.fetch(_UNTOLD) or not await site.pool.fetchval(_NOTHING_WAITS):
            await shift_wall_clocks(site.pool, 1, is_dead=False)
            await asyncio.sleep(0.5)


async def _until(site: Installation, query: str) -> None:
    async with asyncio.timeout(60):
        while not await site.pool.fetchval(query):  # noqa: ASYNC110 -- PostgreSQL sets no event
            await asyncio.sleep(0.1)


def _longest_gap(answers: list[Answer]) -> float:
    at = [answer.at for answer in answers if answer.status == 200]
    return max((later - earlier for earlier, later in pairwise(at)), default=0.0)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
