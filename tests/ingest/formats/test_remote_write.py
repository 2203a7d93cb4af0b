"""Prometheus remote write: samples of series by labels, and Prometheus itself where it is installed."""

import asyncio
import shutil
from collections.abc import Sequence
from math import inf, nan
from pathlib import Path
from struct import unpack
from typing import Any

import cramjam
import pytest

from app.clock import now_us
from app.errors import InvalidRequestError
from app.ingest.formats import ReceiptTimes
from app.ingest.formats.remote_write import _write_request, parse
from app.model import Reading
from tests.conftest import API_KEY, Database, Server
from tests.ingest.uploads import T0, as_objects

T0_MS = T0 // 1_000
#: The NaN by which Prometheus marks the end of a series.
(STALE,) = unpack("<d", (0x7FF0000000000002).to_bytes(8, "little"))


def write_request(*series: tuple[dict[str, str], Sequence[tuple[int, float]]]) -> bytes:
    """Encode a request of series, each with labels and samples of (milliseconds, value)."""
    request = _write_request()()
    for labels, samples in series:
        added = request.timeseries.add()
        for name, text in labels.items():
            added.labels.add(name=name, value=text)
        for time_ms, value in samples:
            added.samples.add(timestamp=time_ms, value=value)
    encoded: bytes = request.SerializeToString()
    return encoded


def test_sample_becomes_a_value_of_the_sensor_that_its_labels_name() -> None:
    body = write_request(
        ({"__name__": "temperature", "device": "cellar", "site": "quay"}, [(T0_MS - 1_000, 12.5), (T0_MS, 13)]),
        ({"__name__": "up", "instance": "pi:9100", "job": "node"}, [(T0_MS, 1)]),
    )
    readings, rejected = _parse(body)
    assert rejected == []
    # Samples of one series have one position in the request, which is that of the series.
    assert [(each.sensor, each.time_us, each.values, each.tags) for each in readings] == [
        ("cellar,site=quay", T0 - 1_000_000, {"temperature": 13.0}, {"site": "quay"}),
        ("up,instance=pi:9100,job=node", T0, {"up": 1.0}, {"instance": "pi:9100", "job": "node"}),
    ]
    assert list(parse(body, "", ReceiptTimes(T0)).readings.values) == [12.5, 13.0, 1.0]


def test_stale_markers_and_other_nan_are_no_values() -> None:
    assert _parse(write_request(({"__name__": "m"}, [(T0_MS, STALE), (T0_MS + 1, nan)]))) == ([], [])


def test_refused_samples_are_named_and_the_others_are_kept() -> None:
    body = write_request(
        ({"__name__": "m", "host": "a"}, [(0, 1), (T0_MS, inf), (T0_MS, 2)]), ({"__name__": ""}, [(T0_MS, 1)])
    )
    readings, rejected = _parse(body)
    assert [each.values for each in readings] == [{"m": 2.0}]
    assert rejected == [(0, "time_too_old"), (0, "value_out_of_range"), (1, "metric_invalid")]


@pytest.mark.parametrize("body", [b"\xff", b"{}", b"\x0a\x05abc"])
def test_other_body_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="no write request of Prometheus"):
        _parse(body)


async def test_compressed_request_is_stored_and_refusals_are_answered(server: Server, database: Database) -> None:
    now_ms = now_us() // 1_000
    good = ({"__name__": "m", "host": "a"}, [(now_ms, 1.5)])
    assert await _post(server, cramjam.snappy.compress_raw(write_request(good))) == (204, None)
    bad = ({"__name__": "m"}, [(0, 1.0)])
    status, problem = await _post(server, cramjam.snappy.compress_raw(write_request(good, bad)))
    assert status == 422
    assert problem["detail"].startswith("1 samples refused, all others stored; the first: series 1: time is 1970-01-01")
    assert await database.pool.fetchval("SELECT value FROM reading") == 1.5


@pytest.mark.parametrize(
    ("body", "status"), [(b"no snappy", 400), (b"\x80\x80\x80\x40", 413)], ids=["broken", "says 128 MiB"]
)
async def test_broken_or_too_large_compression_is_refused(server: Server, body: bytes, status: int) -> None:
    assert (await _post(server, body))[0] == status


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")
async def test_prometheus_in_agent_mode_writes_what_it_scrapes(
    server: Server, database: Database, tmp_path: Path
) -> None:
    config = tmp_path / "prometheus.yml"
    target = server.address.removeprefix("http://")
    config.write_text(
        f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: tidegauge
    static_configs: [{{targets: ["{target}"]}}]
remote_write:
  - url: {server.address}/api/v1/write
    authorization: {{credentials: {API_KEY}}}
"""
    )
    command = ["prometheus", "--enable-feature=agent", f"--config.file={config}", "--web.listen-address=127.0.0.1:0"]
    process = await asyncio.create_subprocess_exec(
        *command, f"--storage.agent.path={tmp_path}", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(30):
            while not await database.pool.fetchval("SELECT count(*) FROM series WHERE metric = 'up'"):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    finally:
        process.terminate()
        await process.wait()


async def _post(server: Server, body: Any) -> tuple[int, Any]:
    headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    async with server.http.post("/api/v1/write", data=bytes(body), headers=headers) as response:
        return response.status, await response.json(content_type=None) if response.status != 204 else None


def _parse(body: bytes) -> tuple[list[Reading], list[tuple[int, str]]]:
    parsed = parse(body, "", ReceiptTimes(T0))
    return as_objects(parsed.readings), [(each.index, each.code) for each in parsed.rejected.listed]


async def test_message_of_version_2_is_refused_because_nothing_of_it_could_be_read(server: Server) -> None:
    headers = {"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"}
    async with server.http.post("/api/v1/write", data=b"", headers=headers) as response:
        assert response.status == 415
        assert "send prometheus.WriteRequest, which is remote write 1.0" in (await response.json())["detail"]
    headers["Content-Type"] = "application/x-protobuf;proto=prometheus.WriteRequest"
    async with server.http.post("/api/v1/write", data=b"", headers=headers) as response:
        assert response.status == 204
