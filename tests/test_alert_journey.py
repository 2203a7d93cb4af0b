"""The life of an alert: what is told of a noisy day is true, however its readings came and whatever was killed.

Twelve sensors' readings of a day reach a `tidegauge serve` over HTTP: shuffled, cut into uploads of any size, a tenth
of them twice. The process is killed (kill -9) twice while it takes an upload and once while it delivers a message; what
got no answer is sent again. Rules, evaluator, outbox and deliveries are those of the process from the first reading to
the last message: nothing is patched, and none of it runs inside the test.

People are told after waits of 30 seconds to 30 minutes, and a delivery of which nothing is heard counts as lost after
two, so time has to pass. It passes in the database: each wall-clock time there that alerts go by is moved into the
past, all at once and only while no message is on its way, as if the process had done nothing for so long. To run the
last phase inside the test, with quick clocks, would prove another program than the one that was killed. The times of
readings stay as they are: nothing depends on how they stand to the others but whether a series is catching up.
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
from tests.alerting.heard import check_heard, list_final, list_inherited, list_untold, load_heard, load_known
from tests.alerting.noisy_day import RULE_FILE, SENSORS, WATCHES, Day, noisy_day, scattered, true_episodes
from tests.alerting.truth import check_arrived
from tests.conftest import Database
from tests.processes import ServerProcess, running
from tests.receivers import Accepted, WebhookReceiver

#: All times that alerts go by and that are not of a sensor's clock.
WALL_CLOCKS = {
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
#: Of a machine with other things to do.
PATIENCE_S = 60
#: How often all is evaluated and told so far, before more readings come.
PAUSES = 7
#: What the rules come to over that day.
EPISODES = 344


class Journey:
    """A server that is killed and started again, and uploads that reach it all the same."""

    def __init__(self, database: Database, folder: Path, rng: Random) -> None:
        self.pool = database.pool
        self.receiver = WebhookReceiver(on_accept=self._take)
        self.server: ServerProcess
        self.kills = 0
        #: The message whose delivery the process does not survive, counted from 1.
        self.fatal_message = rng.randint(3, 12)
        self._rng = rng
        self._folder = folder
        self._rules = folder / "rules"
        self._dsn = database.dsn
        self._stack = AsyncExitStack()

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[None]:
        """Serve, and receive what is told, until the block ends."""
        async with self.receiver, self._stack:
            self._rules.mkdir()
            (self._rules / "rules.yml").write_text(RULE_FILE.format(url=self.receiver.url))
            await self._start()
            yield

    async def upload(self, uploads: Sequence[Sequence[Mapping[str, Any]]]) -> None:
        """Send one upload after the other, each until it is answered; now and then the process dies, or time passes."""
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

    async def tell_all(self) -> None:
        """Let time pass until nothing is left to tell, as far as that comes about."""
        await self._until(ALL_EVALUATED)
        await self._let_pass(31)
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while list_untold((await load_known(self.pool)).values()) or await self.pool.fetchval(SOMETHING_WAITS):
                    if await self.pool.fetchval(NOTHING_DUE) and await self.pool.fetchval(SOMETHING_WAITS):
                        await self._let_pass(6)
                    await self._start_if_dead()

    async def history(self) -> list[dict[str, Any]]:
        """Get all alerts over HTTP, those that were withdrawn, too, the oldest first."""
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

    def _take(self, _: str, message: Accepted) -> None:
        """Kill the process before it gets its answer."""
        if len(self.receiver.accepted) == self.fatal_message:
            self._kill()

    def _kill(self) -> None:
        self.server.process.kill()
        self.kills += 1

    async def _start(self) -> None:
        server = running(self._folder, "serve", DATABASE_URL=self._dsn, RULES_DIR=str(self._rules))
        self.server = await self._stack.enter_async_context(server)

    async def _start_if_dead(self) -> None:
        """Start the process again, some minutes after its death."""
        if self.server.process.poll() is not None:
            await self._let_pass(self._rng.uniform(3, 10))
            await self._start()
        else:
            await asyncio.sleep(0.02)

    async def _until(self, query: str) -> None:
        """Wait until a query gives true."""
        async with asyncio.timeout(PATIENCE_S):
            while not await self.pool.fetchval(query):
                await self._start_if_dead()

    async def _let_pass(self, minutes: float) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not await pass_at_once(  # noqa: ASYNC110 -- PostgreSQL sets no event
                self.pool, minutes, is_dead=self.server.process.poll() is not None
            ):
                await asyncio.sleep(0.02)


async def pass_at_once(pool: Pool, minutes: float, *, is_dead: bool) -> bool:
    """Move all wall-clock times into the past, unless a process writes any just now or waits for a message's answer."""
    async with pool.acquire() as connection, connection.transaction():
        try:
            await connection.execute(f"LOCK TABLE {', '.join(WALL_CLOCKS)} IN EXCLUSIVE MODE NOWAIT")
        except asyncpg.LockNotAvailableError:
            return False
        if not is_dead and await connection.fetchval(
            "SELECT EXISTS (SELECT FROM notification WHERE state = 'sending')"
        ):
            return False
        for table, columns in WALL_CLOCKS.items():
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
    """Take what history says of an alert for an episode."""
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
    """Every reading is stored once, and history is what a naive look at all of them finds."""
    truth = true_episodes(day)
    assert sum(map(len, truth.values())) == EPISODES
    assert await load_stored(journey.pool) == day
    found: dict[tuple[str, str], list[Episode]] = {pair: [] for pair in truth}
    for item in history:
        if item["reason"] != "retracted":
            found[item["rule"], item["sensor"]].append(as_episode(item))
    assert found == truth


async def check_messages(journey: Journey) -> None:
    """Each message came once, but for those whose answers were lost with the process; each channel knows the truth."""
    accepted = journey.receiver.accepted
    await check_arrived(journey.pool, accepted)
    heard, known = await load_heard(journey.pool, accepted), await load_known(journey.pool)
    assert accepted[journey.fatal_message - 1].body in [message.body for message in heard.repeats]
    assert len(heard.repeats) <= journey.kills
    assert list_untold(known.values()) == []
    check_heard(heard, known)
    assert len(list_inherited(heard, known)) < len(heard.lines) / 4
    for line, episode in list_final(heard, known):
        said = [(entry["sensor"], entry["level"], entry["since"], entry["until"]) for entry in line.entries]
        assert (episode.sensor, episode.level, episode.started_at, episode.resolved_at) in said
    assert {line.kind for line in heard.lines} >= {"firing", "resolved", "summary"}
    summed_up = {known[line.episode_id].rule for line in heard.lines if line.kind == "summary"}
    assert summed_up == {name for name, watch in WATCHES.items() if watch.late == "summary"}


# Once as if each sensor's day came at random, once as if each stretch of it was held up for hours.
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("seed", "late_h"), [(1, 24), (2, 6)])
async def test_alerts_are_true_and_told_once_when_a_day_comes_scattered_and_the_server_is_killed(
    database: Database, tmp_path: Path, seed: int, late_h: float
) -> None:
    day = noisy_day(now_us() - MINUTE_US, Random(0))
    rng = Random(seed)
    journey = Journey(database, tmp_path, rng)
    async with journey.begun():
        await journey.upload(scattered(day, late_h, rng))
        await journey.tell_all()
        history = await journey.history()
        assert await journey.server.end(signal.SIGTERM) == 0
    assert journey.kills == 3
    await check_history(journey, day, history)
    await check_messages(journey)
