"""Seconds from the commit of a critical reading to the receipt of its Slack message, while other readings are stored.

The rules are the example rules, under which the other readings are calm, and one for each of several Slack channels:
Slack takes a message a second for each webhook, so one channel would measure that.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from shutil import copy
from statistics import median
from tempfile import TemporaryDirectory

import msgspec

from tests.bench.connections import HttpClient, connected, p99, request
from tests.bench.ingest.batches import BATCH
from tests.bench.ingest.load import Load, store, watched
from tests.bench.ingest.rules import GATEWAYS, RULES, begin
from tests.bench.processes import Served, served
from tests.bench.report.rows import Goal, Row
from tests.bench.report.run import Run
from tests.receivers import Accepted, SlackReceiver

CHANNELS = 8
ALERTS = 120
EVERY_S = 0.25
#: Other readings stored meanwhile.
VALUES_PER_SECOND = 50_000
#: Longer than the measurement lasts, so that the load does not end first.
_SPARE_S = 3.0
_LATE_LIMIT_S = 30.0


class Alarms:
    """Critical readings of new sensors, and when each was answered and its message came, on the monotonic clock."""

    def __init__(self, count: int) -> None:
        self.sent: dict[str, float] = {}
        self.answered: dict[str, float] = {}
        self.received: dict[str, float] = {}
        self.all_came = asyncio.Event()
        self._count = count

    async def send(self, server: Served, client: HttpClient, number: int) -> None:
        """Upload one; its commit precedes the answer."""
        sensor = f"alarm-{number % CHANNELS}-{number:04}"
        body = msgspec.json.encode([{"sensor": sensor, "values": {"alarm": 9}}])
        self.sent[sensor] = time.monotonic()
        await client.send(request(server.address, "/api/v1/readings", body), 200)
        self.answered[sensor] = time.monotonic()

    def note(self, _service: str, message: Accepted) -> None:
        """Take note of a message of the receiver."""
        for sensor in self.sent:
            if sensor in message.text:
                self.received.setdefault(sensor, message.at)
        if len(self.received) >= self._count:
            self.all_came.set()

    def delays_s(self, since: dict[str, float]) -> list[float]:
        """Return how long after these times the messages came."""
        return [at - since[sensor] for sensor, at in self.received.items()]


async def measure(run: Run) -> AsyncIterator[Row]:
    """Yield the median and p99."""
    count = run.count(ALERTS, CHANNELS)
    alarms = Alarms(count)
    with TemporaryDirectory() as folder:
        async with (
            SlackReceiver(on_accept=alarms.note) as slack,
            run.database() as dsn,
            served(
                dsn,
                RULES_DIR=_write_rules(Path(folder)),
                SLACK_WEBHOOK_PREFIX=slack.prefix,
                **{f"CHANNEL_SLACK_{number}": slack.webhook_url(f"alarm{number}") for number in range(CHANNELS)},
            ) as server,
            watched(dsn) as database,
        ):
            await begin(server, database, (0, 2))
            uploads = round((count * EVERY_S + _SPARE_S) * VALUES_PER_SECOND / BATCH.values)
            load = Load(BATCH, uploads, GATEWAYS, part=(1, 2))
            storing = asyncio.create_task(store(server, load, GATEWAYS, database, VALUES_PER_SECOND))
            await asyncio.sleep(0)  # so that its requests are made before the first alert
            await _send_all(server, alarms, count)
            async with asyncio.timeout(_LATE_LIMIT_S):
                await alarms.all_came.wait()
            stored = await storing
    delays_s, whole_s = alarms.delays_s(alarms.answered), alarms.delays_s(alarms.sent)
    shape = f"{count} alerts, {stored.per_second:,.0f} other values/s under the example rules"
    for name, figure in (("median", median(delays_s)), ("p99", p99(delays_s))):
        yield Row(
            name=f"critical alert, commit to Slack: {name}",
            shape=shape,
            figure=figure,
            unit="s",
            goal=Goal("≤", 3.0),
            note=f"from the start of its upload: median {median(whole_s):.2f} s, p99 {p99(whole_s):.2f} s",
        )


def _write_rules(folder: Path) -> str:
    """Write the example rules, and a rule and a channel for each of CHANNELS; return the folder."""
    for file in RULES.glob("*.yml"):
        copy(file, folder)
    rules = [
        f'  - {{name: alarm-{number}, sensors: {{metric: alarm, id: "alarm-{number}-*"}}, group_by: [sensor], '
        f"notify: [slack-{number}], levels: {{critical: {{above: 5}}}}}}"
        for number in range(CHANNELS)
    ]
    channels = [
        f'  slack-{number}: {{type: slack, webhook_url: "${{CHANNEL_SLACK_{number}}}"}}' for number in range(CHANNELS)
    ]
    lines = ["version: 1", "rules:", *rules, "channels:", *channels]
    (folder / "alarms.yml").write_text("\n".join(lines) + "\n")
    return str(folder)


async def _send_all(server: Served, alarms: Alarms, count: int) -> None:
    async with connected(server.address, 1) as (client,):
        started = time.monotonic()
        for number in range(count):
            await asyncio.sleep(started + number * EVERY_S - time.monotonic())
            await alarms.send(server, client, number)
