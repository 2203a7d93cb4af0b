"""The path of an alert: from uploads in random order, through kills of the server, to messages that match the episodes.

A day of readings of twelve sensors is posted to a `tidegauge up` in random order, in uploads of random size, a tenth
of them twice. Its processes are killed (kill -9) twice while one takes an upload and once while one delivers a message.
An upload without an answer is sent again. Rules, evaluation, outbox and deliveries all run in these processes: nothing
is patched, and none of it runs inside the test.

Messages wait from 30 seconds to 30 minutes, and an attempt without an answer counts as lost after two minutes, so time
has to pass. The test moves all wall-clock times in the database that alerting uses into the past, in one transaction
and only while no message is being sent, as if the process had done nothing for that long. Running the last phase inside
the test with shorter waits would test another program than the one that was killed. The times of readings stay: their
distance to the wall clock only decides whether a series is catching up.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from app.alerting.episodes.machine import Episode, Step
from app.alerting.episodes.samples import StoredReading
from app.clock import MINUTE_US, now_us, to_us
from app.db.pool import Pool
from tests.alerting.delivery_checks import check_arrived
from tests.alerting.random_day import RULE_FILE, RULES, SENSORS, Day, expected_episodes, random_day, shuffled_uploads
from tests.alerting.received_messages import (
    check_received,
    list_final,
    list_inherited,
    list_wrongly_told,
    load_episodes,
    load_received,
)
from tests.conftest import Database
from tests.processes import ServerProcess, running
from tests.receivers import Accepted, WebhookReceiver

#: The columns of each table that hold wall-clock times which alerting uses.
WALL_CLOCK_COLUMNS = {
    "alert_episode": ("first_known_at",),
    "notification": ("created_at", "due_at", "claimed_at", "finished_at", "next_attempt_at", "attempt_started_at"),
    "notification_attempt": ("at",),
    "alert_told": ("told_at",),
    "series_state": ("received_at",),
}
ALL_EVALUATED = "SELECT NOT EXISTS (SELECT FROM dirty)"
NOTHING_DUE = """
SELECT NOT EXISTS (SELECT FROM notification WHERE state = 'sending' OR state = 'waiting' AND due_at <= now())
"""
SOMETHING_WAITS = "SELECT EXISTS (SELECT FROM notification WHERE state IN ('sending', 'waiting'))"
#: Long enough for a busy machine.
WAIT_S = 60
#: How often the uploads pause until everything so far is evaluated and sent.
PAUSES = 7
#: The number of episodes of all rules over that day.
EPISODES = 344


class Journey:
    """A server that is killed and started again, and uploads that are repeated until it answers."""

    def __init__(self, database: Database, folder: Path, rng: Random) -> None:
        self.pool = database.pool
        self.receiver = WebhookReceiver(on_accept=self._kill_at_fatal_message)
        self.server: ServerProcess
        self.kills = 0
        #: The process is killed while it delivers this message, counted from 1.
        self.fatal_message = rng.randint(3, 12)
        self._rng = rng
        self._folder = folder
        self._rules = folder / "rules"
        self._dsn = database.dsn
        self._stack = AsyncExitStack()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the server and the receiver until the block ends."""
        async with self.receiver, self._stack:
            self._rules.mkdir()
            (self._rules / "rules.yml").write_text(RULE_FILE.format(url=self.receiver.url))
            await self._start()
            # A rule that is newer than a series sends no message about alerts that have ended already.
            await self._until("SELECT EXISTS (SELECT FROM alert_rule)")
            yield

    async def upload(self, uploads: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        """Send the uploads in order, each until it is answered, with two kills and some pauses at random places."""
        fatal = self._rng.sample(range(len(uploads)), k=2)
        share = len(uploads) / PAUSES
        pauses = {int(share * (number + self._rng.random())) for number in range(PAUSES)}
        for number, upload in enumerate(uploads):
            if number in fatal:
                await self._send_and_kill(upload)
            else:
                await self._send(upload)
            if number in pauses:
                await self._until(ALL_EVALUATED)
                await self._let_pass(self._rng.choice((2, 6, 12)))
                await self._until(NOTHING_DUE)

    async def finish(self) -> None:
        """Let time pass until every message has been sent, for at most WAIT_S. The checks afterwards find failures."""
        await self._until(ALL_EVALUATED)
        await self._let_pass(31)
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                while list_wrongly_told((await load_episodes(self.pool)).values()) or await self.pool.fetchval(
                    SOMETHING_WAITS
                ):
                    if await self.pool.fetchval(NOTHING_DUE) and await self.pool.fetchval(SOMETHING_WAITS):
                        await self._let_pass(6)
                    await self._start_if_dead()

    async def history(self) -> list[dict[str, Any]]:
        """Get all alerts over HTTP, including retracted ones, the oldest first."""
        items: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            async with self.server.http.get("/api/v1/alerts/history", params=cursor) as response:
                assert response.status == 200, await response.text()
                page = await response.json()
            items += page["items"]
            if page["next"] is None:
                return items[::-1]
            cursor = {"cursor": page["next"]}

    async def _send(self, readings: Sequence[Mapping[str, Any]]) -> None:
        while await self.server.post(readings) != 200:
            await self._start_if_dead()

    async def _send_and_kill(self, readings: Sequence[Mapping[str, Any]]) -> None:
        sending = asyncio.create_task(self.server.post(readings))
        await asyncio.wait({sending}, timeout=self._rng.uniform(0, 0.03))
        self._kill()
        if await sending != 200:
            await self._send(readings)

    def _kill_at_fatal_message(self, _: str, message: Accepted) -> None:
        """Kill the process before it receives the answer to the fatal message."""
        if len(self.receiver.accepted) == self.fatal_message:
            self._kill()

    def _kill(self) -> None:
        self.server.kill()
        self.kills += 1

    async def _start(self) -> None:
        server = running(self._folder, "up", DATABASE_URL=self._dsn, RULES_DIR=str(self._rules))
        self.server = await self._stack.enter_async_context(server)

    async def _start_if_dead(self) -> None:
        """Start the process again, some minutes after its death."""
        if self.server.process.poll() is not None:
            await self._let_pass(self._rng.uniform(3, 10))
            await self._start()
        else:
            await asyncio.sleep(0.02)

    async def _until(self, query: str) -> None:
        """Wait until a query returns true."""
        async with asyncio.timeout(WAIT_S):
            while not await self.pool.fetchval(query):
                await self._start_if_dead()

    async def _let_pass(self, minutes: float) -> None:
        async with asyncio.timeout(WAIT_S):
            while not await shift_wall_clocks(  # noqa: ASYNC110 -- PostgreSQL sets no event
                self.pool, minutes, is_dead=self.server.process.poll() is not None
            ):
                await asyncio.sleep(0.02)


async def shift_wall_clocks(pool: Pool, minutes: float, *, is_dead: bool) -> bool:
    """Move all wall-clock times into the past; return whether it was done.

    It is not done while a process writes to one of the tables or waits for the answer to a message.
    """
    async with pool.acquire() as connection, connection.transaction():
        try:
            await connection.execute(f"LOCK TABLE {', '.join(WALL_CLOCK_COLUMNS)} IN EXCLUSIVE MODE NOWAIT")
        except asyncpg.LockNotAvailableError:
            return False
        if not is_dead and await connection.fetchval(
            "SELECT EXISTS (SELECT FROM notification WHERE state = 'sending')"
        ):
            return False
        for table, columns in WALL_CLOCK_COLUMNS.items():
            shifts = ", ".join(f"{column} = {column} - $1 * INTERVAL '1 minute'" for column in columns)
            await connection.execute(f"UPDATE {table} SET {shifts}", float(minutes))
    return True


async def load_stored(pool: Pool) -> dict[str, list[StoredReading]]:
    """Load all readings by sensor, in order of time."""
    rows = await pool.fetch(
        """SELECT sensor.name, to_us(time) AS us, value
             FROM reading JOIN series ON series.id = series_id JOIN sensor ON sensor.id = sensor_id
            WHERE time > now() - INTERVAL '2 days'
            ORDER BY time"""
    )
    stored: dict[str, list[StoredReading]] = {sensor: [] for sensor in SENSORS}
    for name, us, value in rows:
        stored[name].append((us, value))
    return stored


def as_episode(item: Mapping[str, Any]) -> Episode:
    """Convert an alert of the history endpoint into an episode."""
    steps = tuple(Step(step["level"], to_us(datetime.fromisoformat(step["at"]))) for step in item["steps"])
    started, fired, resolved = (
        None if item[name] is None else to_us(datetime.fromisoformat(item[name]))
        for name in ("started_at", "fired_at", "resolved_at")
    )
    assert started is not None
    assert fired is not None
    assert item["level"] == steps[-1].level
    return Episode(started, fired, resolved, steps)


async def check_history(journey: Journey, day: Day, history: Sequence[Mapping[str, Any]]) -> None:
    """Check that every reading is stored once and that the history equals the oracle's episodes."""
    expected = expected_episodes(day)
    assert sum(map(len, expected.values())) == EPISODES
    assert await load_stored(journey.pool) == day
    found: dict[tuple[str, str], list[Episode]] = {pair: [] for pair in expected}
    for item in history:
        if item["reason"] != "retracted":
            found[item["rule"], item["sensor"]].append(as_episode(item))
    assert found == expected


async def check_messages(journey: Journey) -> None:
    """Check that messages match the episodes, and that only those whose answer was lost by a kill arrived twice."""
    accepted = journey.receiver.accepted
    await check_arrived(journey.pool, accepted)
    received, episodes = await load_received(journey.pool, accepted), await load_episodes(journey.pool)
    assert accepted[journey.fatal_message - 1].body in [message.body for message in received.repeats]
    assert len(received.repeats) <= journey.kills
    assert list_wrongly_told(episodes.values()) == []
    check_received(received, episodes)
    assert len(list_inherited(received, episodes)) < len(received.items) / 4
    for item, episode in list_final(received, episodes):
        shown = [(entry["sensor"], entry["level"], entry["since"], entry["until"]) for entry in item.entries]
        assert (episode.sensor, episode.level, episode.started_at, episode.resolved_at) in shown
    assert {item.kind for item in received.items} >= {"firing", "resolved", "summary"}
    summarized = {episodes[item.episode_id].rule for item in received.items if item.kind == "summary"}
    assert summarized == {name for name, rule in RULES.items() if rule.late_notify == "summary"}


# With 24 hours the readings arrive in any order; with 6 they arrive roughly in order, with holes filled hours later.
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("seed", "late_h"), [(1, 24), pytest.param(2, 6, marks=pytest.mark.slow)])
async def test_alerts_and_messages_are_right_when_uploads_are_shuffled_and_the_server_is_killed(
    database: Database, tmp_path: Path, seed: int, late_h: float
) -> None:
    day = random_day(now_us() - MINUTE_US, Random(0))
    rng = Random(seed)
    journey = Journey(database, tmp_path, rng)
    async with journey.running():
        await journey.upload(shuffled_uploads(day, late_h, rng))
        await journey.finish()
        history = await journey.history()
        assert await journey.server.end(signal.SIGTERM) == 0
    assert journey.kills == 3
    await check_history(journey, day, history)
    await check_messages(journey)
