"""The official clients of InfluxDB write to a real server, and what they wrote is read back."""

import asyncio
import warnings
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import influxdb
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import SYNCHRONOUS

from app.clock import now_us
from tests.conftest import API_KEY, Server

NOW_S = now_us() // 1_000_000


async def test_client_of_version_2_writes_points(server: Server) -> None:
    def write() -> bool:
        with InfluxDBClient(server.address, token=API_KEY, org="any", enable_gzip=True) as client:
            points = [
                Point("weather").tag("device", "roof").field("wind", number).time(NOW_S - number, "s")
                for number in range(1_500)
            ]
            client.write_api(write_options=SYNCHRONOUS).write("any", record=points, write_precision="s")
            return bool(client.ping())

    assert await asyncio.to_thread(write)
    assert await _values(server, "roof", "weather_wind") == list(range(1_499, -1, -1))


async def test_client_of_version_1_writes_points(server: Server) -> None:
    address = urlsplit(server.address)

    def write() -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the client itself
            client = influxdb.InfluxDBClient(address.hostname, address.port, "any", API_KEY, "any")
            body = [
                {
                    "measurement": "temperature",
                    "tags": {"sensor": "cellar"},
                    "time": datetime.fromtimestamp(NOW_S - number, UTC),
                    "fields": {"value": float(number), "state": "on"},
                }
                for number in range(100)
            ]
            assert client.write_points(body, batch_size=30)
            version = str(client.ping())
            client.close()
            return version

    assert await asyncio.to_thread(write) == "1.8.10"
    assert await _values(server, "cellar", "temperature") == list(range(99, -1, -1))


async def _values(server: Server, sensor: str, metric: str) -> list[float]:
    """Return all stored values in the order of time."""
    values: list[float] = []
    cursor: dict[str, Any] = {}
    while True:
        page: Any = await server.get("/api/v1/readings", sensor=sensor, metric=metric, limit=1_000, **cursor)
        values += [item["values"][metric] for item in page["items"]]
        if page["next"] is None:
            return values
        cursor = {"cursor": page["next"]}
