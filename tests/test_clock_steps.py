"""Processes whose wall clock is wrong or is set: jobs go on, and what is stored has the time of the database."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from app.settings import Settings
from app.worker import Worker
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_api, wait_until
from tests.ports import free_port
from tests.receivers import WebhookReceiver
from tests.stepped_clock import SteppedProcess, stepped

HOUR_S = 3_600.0
#: As on a machine without a clock of its own, which learns the time only after its start.
SINCE_1970_S = 55 * 365 * 24 * HOUR_S
RULES = """
version: 1
channels: {{hook: {{type: webhook, url: "{url}/hook"}}}}
rules:
  - name: warm
    sensors: {{metric: temperature}}
    levels: {{critical: {{above: 8}}}}
    notify: [hook]
    group_by: [sensor]
"""


async def test_alerts_are_told_at_once_when_the_clock_of_the_worker_is_set_back_and_forward(
    tmp_path: Path, database: Database, webhook: WebhookReceiver
) -> None:
    (tmp_path / "rules.yml").write_text(RULES.format(url=webhook.url))
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
    port = free_port()
    variables = {"DATABASE_URL": database.dsn, "RULES_DIR": str(tmp_path)}
    async with (
        running_api(settings, Worker(settings)) as api,
        stepped(tmp_path, "work", "--port", str(port), port=port, ahead_s=HOUR_S, **variables) as worker,
    ):
        for told, ahead_s in enumerate((HOUR_S, -HOUR_S, 0.0, -SINCE_1970_S, HOUR_S), start=1):
            worker.step(ahead_s)
            await _fire(api, f"sensor-{told}")
            await wait_until(lambda told=told: len(webhook.accepted) >= told, 10)  # type: ignore[misc]
        late = await database.pool.fetch(
            "SELECT id FROM notification WHERE NOT due_at BETWEEN created_at - INTERVAL '1 second' AND created_at"
        )
        assert late == []
        async with worker.server.http.get("/health/ready") as response:
            assert (response.status, (await response.json())["status"]) == (200, "ready")
        steps = [line["step_s"] for line in worker.server.log if line["event"] == "wall_clock_set"]
    assert steps == pytest.approx([-2 * HOUR_S, HOUR_S, -SINCE_1970_S, SINCE_1970_S + HOUR_S], abs=2)


async def test_readings_without_a_time_get_that_of_the_database_when_the_clock_of_the_api_is_wrong(
    tmp_path: Path, database: Database
) -> None:
    async with stepped(tmp_path, "serve", ahead_s=HOUR_S, DATABASE_URL=database.dsn) as api:
        for number, ahead_s in enumerate((HOUR_S, -HOUR_S)):
            api.step(ahead_s)
            assert await api.server.post([{"sensor": f"s{number}", "values": {"m": 1}}]) == 200
            behind = await database.pool.fetchval("SELECT clock_timestamp() - max(time) FROM reading")
            assert timedelta(seconds=-1) < behind < timedelta(seconds=5)
        assert await _clock_warnings(api) == [
            (
                "clock: that of this machine is 3600 s behind the database's. Readings, alerts and messages go by the "
                "database's; the times of log lines differ"
            )
        ]
        api.step(0.0)
        assert await _clock_warnings(api) == []
        # Counts of gateways are written by a job.
        async with asyncio.timeout(10):
            while await database.pool.fetchval("SELECT sum(uploads) FROM gateway") != 2:  # noqa: ASYNC110 -- no event
                await asyncio.sleep(0.1)
        behind = await database.pool.fetchval("SELECT clock_timestamp() - max(last_upload_at) FROM gateway")
        assert timedelta() <= behind < timedelta(seconds=20)
        steps = [line["step_s"] for line in api.server.log if line["event"] == "wall_clock_set"]
    assert sum(steps) == pytest.approx(-HOUR_S, abs=2)


async def _clock_warnings(api: SteppedProcess) -> list[str]:
    async with api.server.http.get("/health/ready") as response:
        return [text for text in (await response.json()).get("warnings", []) if text.startswith("clock:")]


async def _fire(api: Server, sensor: str) -> None:
    response = await api.post_readings([{"sensor": sensor, "values": {"temperature": 20}}])
    assert response.status == 200
