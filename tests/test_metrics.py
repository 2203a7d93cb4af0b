"""The metrics of /metrics: complete, updated, and without labels from requests."""

import asyncio

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import YESTERDAY, YESTERDAY_AT_8_MS, Database, Server, wait_until
from tests.live.clients import live

#: The metrics that operators rely on; histograms are listed by their count.
PROMISED = {
    "tidegauge_request_seconds_count",
    "tidegauge_values_accepted_total",
    "tidegauge_values_duplicate_total",
    "tidegauge_values_rejected_total",
    "tidegauge_flush_seconds_count",
    "tidegauge_flush_values_count",
    "tidegauge_ingest_queue_values",
    "tidegauge_websocket_clients",
    "tidegauge_frames_sent_total",
    "tidegauge_frames_conflated_total",
    "tidegauge_clients_dropped_total",
    "tidegauge_feed_lag_seconds",
    "tidegauge_feed_seq",
    "tidegauge_listener_reconnects_total",
    "tidegauge_db_pool_connections",
    "tidegauge_database_size_bytes",
    "tidegauge_db_pool_wait_seconds_count",
    "tidegauge_ready",
    "tidegauge_warning",
    "tidegauge_clock_skew_seconds",
    "tidegauge_flush_age_seconds",
    "tidegauge_last_evaluation_timestamp_seconds",
    "tidegauge_dirty_rows",
    "tidegauge_dirty_oldest_seconds",
}
#: A text that requests contain and that must not become a label.
FOREIGN = "made-up"


async def scrape(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    async with aiohttp.ClientSession() as http, http.get(f"{server.address}/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = await response.text()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


async def use(server: Server) -> None:
    """Upload new, known and invalid values while a client follows the feed."""
    async with live(server) as client:
        await client.snapshot()
        body = [{"sensor": FOREIGN, "time": f"{YESTERDAY}T08:00:00Z", "values": {FOREIGN: 1, "n": 2}}]
        await server.post_readings({"gateway": FOREIGN, "readings": body})
        await server.post_readings({"gateway": FOREIGN, "readings": body})
        await server.post_readings([{"sensor": FOREIGN, "values": {FOREIGN: None, "n": 1e300}}])
        await client.values(2)
        async with server.http.get(f"/api/v1/sensors/{FOREIGN}") as response:
            assert response.status == 200
        async with server.http.get(f"/{FOREIGN}") as response:
            assert response.status == 404
        samples = await scrape(server)
        assert value(samples, "tidegauge_websocket_clients", path="/ws/live") == 1
        assert value(samples, "tidegauge_frames_sent_total") == 2


async def test_metrics_are_updated_when_the_server_is_used(server: Server) -> None:
    await use(server)
    await wait_until(
        lambda: (
            server.services.metrics.registry.get_sample_value("tidegauge_websocket_clients", {"path": "/ws/live"}) == 0
        )
    )
    samples = await scrape(server)
    assert {name for name, _ in samples} >= PROMISED
    posted = {"method": "POST", "path": "/api/v1/readings", "status": "200"}
    assert value(samples, "tidegauge_request_seconds_count", **posted) == 3
    assert value(samples, "tidegauge_request_seconds_sum", **posted) > 0
    assert value(samples, "tidegauge_values_accepted_total") == 2
    assert value(samples, "tidegauge_values_duplicate_total") == 2
    assert value(samples, "tidegauge_values_rejected_total", code="value_not_a_number") == 1
    assert value(samples, "tidegauge_values_rejected_total", code="value_out_of_range") == 1
    assert value(samples, "tidegauge_flush_seconds_count") >= 2
    assert value(samples, "tidegauge_ingest_queue_values") == 0
    assert value(samples, "tidegauge_feed_seq") == 1
    assert 0 < value(samples, "tidegauge_feed_lag_seconds") < 10
    assert value(samples, "tidegauge_database_size_bytes") > 1_000_000
    assert value(samples, "tidegauge_db_pool_connections", state="open") >= 1


async def test_metrics_show_the_waiting_values_when_the_database_is_slow(server: Server, database: Database) -> None:
    registry = server.services.metrics.registry
    uploads: list[asyncio.Task[aiohttp.ClientResponse]] = []

    def upload_another() -> bool:
        upload = server.post_readings([{"sensor": "s", "time": YESTERDAY_AT_8_MS + len(uploads), "values": {"m": 1}}])
        uploads.append(asyncio.create_task(upload))
        return (registry.get_sample_value("tidegauge_ingest_queue_values") or 0) > 10

    async with database.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute("LOCK TABLE series_state IN ACCESS EXCLUSIVE MODE")
        await wait_until(upload_another)  # both flushers wait for the lock, so later values queue up
        assert value(await scrape(server), "tidegauge_ingest_queue_values") > 10
    assert {response.status for response in await asyncio.gather(*uploads)} == {200}
    assert registry.get_sample_value("tidegauge_ingest_queue_values") == 0


async def test_metrics_have_no_label_from_a_request(server: Server) -> None:
    await use(server)
    samples = await scrape(server)
    assert not [labels for _, labels in samples if any(FOREIGN in label for _, label in labels)]
