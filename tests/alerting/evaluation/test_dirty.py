"""The rows of `dirty` that an evaluation takes, and those that it leaves."""

from collections.abc import AsyncIterator

import pytest

from app.alerting.episodes.replay import LARGEST_PAGE
from app.alerting.evaluation import dirty, evaluator, source
from app.alerting.evaluation.dirty import LateRows, Taken, take_dirty
from app.clock import MINUTE_US, from_us, now_us
from app.db.pool import Connection
from app.model import SeriesId
from app.summaries import Summaries, Summary, pack, unpack
from tests.alerting.harness import AlertingHarness
from tests.conftest import Database

M = MINUTE_US
WARM = """
  - name: warm
    sensors: {metric: temperature}
    levels: {warning: {above: 8}}
    notify: [ops]
"""


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    async with database.pool.acquire() as connection:
        yield connection


async def insert(connection: Connection, *series_ids: int, late: bool = False, minute: int = 1) -> int:
    """Add a row with a single of each series; return its id."""
    singles = ((SeriesId(series_id), Summary(1, minute * M, minute * M, 5.0, 5.0, 0)) for series_id in series_ids)
    row_id: int = await connection.fetchval(
        "INSERT INTO dirty (summaries, late) VALUES ($1, $2) RETURNING id", pack(Summaries.of(singles)), late
    )
    return row_id


async def rows_left(connection: Connection) -> list[tuple[bool, list[SeriesId]]]:
    """Return whether each waiting row is late, and its series, in order of id."""
    rows = await connection.fetch("SELECT late, summaries FROM dirty ORDER BY id")
    return [(row["late"], unpack(row["summaries"]).series_ids) for row in rows]


async def take(connection: Connection, late: LateRows | None = None) -> Taken:
    return await take_dirty(connection, LateRows() if late is None else late, now_us())


async def test_fresh_rows_are_taken_when_many_late_rows_wait_before_them(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dirty, "LATE_BYTES", 80)  # two rows with one single each
    late = [await insert(connection, number, late=True) for number in range(1, 5)]
    fresh = [await insert(connection, number) for number in range(11, 14)]
    taken = await take(connection)
    assert [row.id for row in taken.rows] == [*late[:2], *fresh]


async def test_first_row_of_a_kind_is_taken_when_it_is_larger_than_the_limit(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dirty, "FRESH_BYTES", 1)
    first = await insert(connection, *range(1, 100))
    await insert(connection, 200)
    assert [row.id for row in (await take(connection)).rows] == [first]


async def test_fresh_readings_are_moved_behind_when_a_late_row_of_their_series_waits(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dirty, "LATE_BYTES", 1)
    await insert(connection, 1, late=True, minute=2)
    await insert(connection, 2, late=True, minute=2)
    await insert(connection, 1, 2, 3, minute=9)
    late = LateRows()
    taken = await take(connection, late)
    # Series 1 has no other late row: both are evaluated together. Series 2 must wait for its late row.
    assert sorted(taken.news) == [1, 3]
    assert [part.first_us for part in taken.news[SeriesId(1)].late] == [2 * M]
    assert taken.news[SeriesId(1)].ranges == [(9 * M, 9 * M), (2 * M, 2 * M)]
    await taken.finish(connection, set())
    assert await rows_left(connection) == [(True, [2]), (True, [2])]
    assert late.of_series == {2: 2}
    taken = await take(connection, late)
    await taken.finish(connection, set())
    taken = await take(connection, late)
    assert taken.news[SeriesId(2)].ranges == [(9 * M, 9 * M)]
    await taken.finish(connection, set())
    assert (await rows_left(connection), late.ids, late.of_series) == ([], set(), {})


async def test_row_keeps_the_series_that_are_put_back(connection: Connection) -> None:
    await insert(connection, 1, 2, 3)
    await insert(connection, 2, late=True, minute=0)
    late = LateRows()
    taken = await take(connection, late)
    await taken.finish(connection, {SeriesId(2), SeriesId(3)})
    assert await rows_left(connection) == [(False, [2, 3]), (True, [2])]
    assert late.of_series == {2: 1}


async def test_fresh_rows_of_a_series_are_joined_and_late_ones_are_kept_apart(connection: Connection) -> None:
    for minute, is_late in ((20, False), (30, False), (1, True), (5, True)):
        await insert(connection, 1, late=is_late, minute=minute)
    news = (await take(connection)).news[SeriesId(1)]
    assert news.ranges == [(20 * M, 30 * M), (1 * M, 1 * M), (5 * M, 5 * M)]
    assert news.fresh == Summary(2, 20 * M, 30 * M, 5.0, 5.0, 10 * M)


async def test_summaries_that_overlap_in_time_bound_the_gap_from_above() -> None:
    one, other = Summary(2, 0, 10 * M, 1.0, 2.0, 10 * M), Summary(2, 4 * M, 12 * M, 0.0, 1.5, 8 * M)
    assert one.join(other) == other.join(one) == Summary(4, 0, 12 * M, 0.0, 2.0, 10 * M)
    apart = Summary(1, 30 * M, 30 * M, 3.0, 3.0, 0)
    assert one.join(apart) == apart.join(one) == Summary(3, 0, 30 * M, 1.0, 3.0, 20 * M)


async def test_alert_fires_when_a_row_of_the_previous_release_has_only_ranges(harness: AlertingHarness) -> None:
    await harness.use_rules(WARM)
    await harness.upload("freezer-1", (3, 5))
    await harness.tick()
    at = from_us(now_us() - M)
    await harness.pool.execute("INSERT INTO reading (series_id, time, value) VALUES (1, $1, 9)", at)
    await harness.pool.execute(
        "INSERT INTO dirty (series_ids, from_times, to_times, late) VALUES ('{1}', ARRAY[$1::timestamptz], "
        "ARRAY[$1::timestamptz], FALSE)",
        at,
    )
    await harness.tick()
    assert [alert[:2] for alert in await harness.open_alerts()] == [("warm", "freezer-1")]


async def test_rule_over_old_series_is_begun_in_several_transactions_when_they_have_many_readings(
    harness: AlertingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "FETCH_LIMIT", 160)
    monkeypatch.setattr(source, "READINGS_LIMIT", LARGEST_PAGE)  # one of them at a time
    await _store_old_series(harness)
    await harness.use_rules(WARM)
    episode_counts, more = [], True
    while more:
        more = await harness.alerting._round(harness.pool)
        episode_counts.append(await harness.pool.fetchval("SELECT count(*) FROM alert_episode"))
    assert episode_counts == [2, 4, 5]


async def test_fresh_reading_does_not_wait_for_a_rule_that_begins_with_the_old_ones_of_its_series(
    harness: AlertingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "FETCH_LIMIT", 40)
    monkeypatch.setattr(source, "READINGS_LIMIT", LARGEST_PAGE)
    hot = WARM.replace("warm", "hot").replace("8", "20").replace("12", "30")
    await harness.use_rules(hot)
    await _store_old_series(harness)
    await harness.use_rules(hot + WARM)
    await harness.upload("freezer-5", (1, 25))
    assert await harness.alerting._round(harness.pool)
    alerts = [alert[:2] for alert in await harness.open_alerts()]
    assert ("hot", "freezer-5") in alerts
    assert ("warm", "freezer-5") not in alerts
    assert await harness.pool.fetchval("SELECT count(*) FROM dirty") == 0
    await harness.tick()
    assert await harness.pool.fetchval("SELECT count(*) FROM alert_episode") == 6


async def test_rule_that_had_not_begun_with_all_old_series_goes_on_when_the_process_restarts(
    harness: AlertingHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "FETCH_LIMIT", 40)
    monkeypatch.setattr(source, "READINGS_LIMIT", LARGEST_PAGE)
    await _store_old_series(harness)
    await harness.use_rules(WARM)
    assert await harness.alerting._round(harness.pool)
    assert await harness.pool.fetchval("SELECT count(*) FROM alert_episode") == 1
    await harness.alerting.tick(harness.pool, 2)  # another term: what is in memory is forgotten
    assert await harness.pool.fetchval("SELECT count(*) FROM alert_episode") == 5


async def _store_old_series(harness: AlertingHarness) -> None:
    """Store thirty warm readings of each of five series, and evaluate them."""
    if not harness.alerting.keeper.rules.rules:
        await harness.use_rules("")
    for number in range(1, 6):
        await harness.upload(f"freezer-{number}", *((minute, 9) for minute in range(31, 1, -1)))
    await harness.tick()
