"""The life of a reading, as CONTRIBUTING describes it: from HTTP to the hypertable, the live feeds and the trends."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import cast

from tests.conftest import Database, Server
from tests.live.clients import live, sensor_updates


async def test_reading_is_stored_published_and_aggregated_once_when_uploaded_twice(
    database: Database, server: Server
) -> None:
    time = datetime.now(UTC).replace(microsecond=250_000) - timedelta(minutes=1)
    reading = {
        "sensor": "cellar",
        "time": time.isoformat(),
        "values": {"temperature": 45.5, "humidity": 61.0, "pressure": 1013.25},
        "tags": {"site": "harbour"},
    }
    async with live(server) as screen, sensor_updates(server) as old_screen:
        snapshot = await screen.snapshot(sensors=["cellar"], alerts=True)
        assert snapshot["readings"] == []

        # 1. A gateway uploads it twice, because the first answer was lost.
        first = await server.post_readings({"gateway": "harbour-1", "readings": [reading]})
        counts = {"rejected": [], "rejected_count": 0}
        receipt = await first.json()
        assert receipt == {"seq": 1, "accepted": 3, "duplicates": 0, **counts, "server_time": receipt["server_time"]}
        again = await server.post_readings({"gateway": "harbour-1", "readings": [reading]})
        receipt = await again.json()
        assert receipt == {"seq": None, "accepted": 0, "duplicates": 3, **counts, "server_time": receipt["server_time"]}

        # 2. and 3. The hypertable has one row for each metric, which is the latest of its series.
        rows = await database.pool.fetch(
            """SELECT metric, time, value, last_time = time AS is_latest
                 FROM reading JOIN series ON series.id = series_id JOIN series_state USING (series_id)
                WHERE time > now() - INTERVAL '1 hour' ORDER BY metric"""
        )
        assert [tuple(row) for row in rows] == [
            ("humidity", time, 61.0, True),
            ("pressure", time, 1013.25, True),
            ("temperature", time, 45.5, True),
        ]

        # 4. and 5. The feed row was numbered at commit, and clients of both feeds received it.
        frame = await screen.receive()
        shown = time.isoformat().replace("+00:00", "Z")
        assert frame["type"] == "readings"
        assert frame["readings"] == [{"sensor": "cellar", "time": shown, "values": reading["values"]}]
        record = await old_screen.connection.recv()
        assert '"temperature":45.5,"humidity":61.0,"pressure":1013.25' in str(record)

    # 6. The rules were evaluated: above 40 for less than a minute is no alert yet.
    async with asyncio.timeout(20):
        while (await server.get("/api/v1/rules"))["last_evaluation"] is None:  # noqa: ASYNC110 -- no event
            await asyncio.sleep(0.05)
    assert (await server.get("/api/v1/alerts"))["items"] == []

    # 8. The reading is in the trends, and its sensor is listed with its gateway and tags.
    trend = await server.get("/api/v1/trends", sensor="cellar", metric="temperature")
    (bucket,) = cast("list[dict[str, float]]", trend["buckets"])
    assert (bucket["count"], bucket["avg"], bucket["first"], bucket["last"]) == (1, 45.5, 45.5, 45.5)
    sensor = await server.get("/api/v1/sensors/cellar")
    assert (sensor["gateway"], sensor["tags"], sensor["state"]) == ("harbour-1", {"site": "harbour"}, "ok")
