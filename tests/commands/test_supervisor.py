"""`tidegauge up` and `tidegauge serve --workers` as process trees: what is killed, what is started again, what ends."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from app.settings import Settings
from app.worker import Worker
from tests import processes
from tests.conftest import API_KEY, Database
from tests.ports import free_port
from tests.processes import STOP_S, ServerProcess, children, running


def command_lines(pid: int) -> dict[int, str]:
    """Return the command line of each child of a process by its id."""
    found = {}
    for child in children(pid):
        line = Path(f"/proc/{child}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        found[child] = b" ".join(line).decode()
    return found


def child_of(server: ServerProcess, command: str) -> int | None:
    """Return the id of the child whose command line contains a text, or None."""
    return next((pid for pid, line in command_lines(server.process.pid).items() if command in line), None)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(STOP_S):
        while not condition():  # noqa: ASYNC110 -- processes set no event
            await asyncio.sleep(0.05)


def is_replaced(server: ServerProcess, command: str, killed: int) -> Callable[[], bool]:
    return lambda: child_of(server, command) not in (None, killed)


async def metric(server: ServerProcess, name: str) -> float:
    async with server.http.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


async def test_up_starts_a_killed_api_and_a_killed_worker_again(tmp_path: Path, database: Database) -> None:
    async with running(tmp_path, "up", DATABASE_URL=database.dsn) as server:
        api, worker = child_of(server, "tidegauge serve"), child_of(server, "tidegauge work")
        assert api
        assert worker
        os.kill(api, signal.SIGKILL)
        await until(is_replaced(server, "tidegauge serve", api))
        # The port stays open meanwhile: a request waits for the new process.
        assert await server.post([{"sensor": "s", "values": {"m": 1}}]) == 200
        os.kill(worker, signal.SIGKILL)
        await until(is_replaced(server, "tidegauge work", worker))
        async with asyncio.timeout(STOP_S):
            while await database.pool.fetchval("SELECT count(*) FROM dirty"):  # noqa: ASYNC110 -- no event
                await asyncio.sleep(0.05)
        assert await server.end(signal.SIGINT) == 0
        ended = [line for line in server.log if line["event"] == "process_ended"]
        assert [(line["process"], line["exit_code"]) for line in ended] == [("serve", -9), ("work", -9)]


async def test_children_end_and_give_the_port_back_when_up_is_killed(tmp_path: Path, database: Database) -> None:
    async with running(tmp_path, "up", DATABASE_URL=database.dsn) as server:
        started = children(server.process.pid)
        assert len(started) == 2
        await server.end(signal.SIGKILL)
        async with processes.started(tmp_path / "again", "up", port=server.port, DATABASE_URL=database.dsn) as again:
            await until(lambda: not any(map(is_running, started)))
            await again.until_ready()
            assert await again.post([{"sensor": "s", "values": {"m": 1}}]) == 200


async def test_children_end_when_up_is_interrupted(tmp_path: Path, database: Database) -> None:
    async with running(tmp_path, "up", DATABASE_URL=database.dsn) as server:
        started = children(server.process.pid)
        assert await server.end(signal.SIGTERM) == 0
        assert not any(map(is_running, started))
        assert server.complaints == []


async def test_workers_share_the_port_and_show_their_metrics_together(tmp_path: Path, database: Database) -> None:
    async with running(tmp_path, "serve", "--workers", "2", DATABASE_URL=database.dsn) as server:
        await until(lambda: len(children(server.process.pid)) == 2)
        for number in range(40):
            # Each request has a connection of its own, so that both processes get some.
            async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as http:
                reading = [{"sensor": "s", "values": {"m": number}}]
                async with http.post("/api/v1/readings", json=reading, headers={"X-API-Key": API_KEY}) as response:
                    assert response.status == 200
        assert await metric(server, "tidegauge_values_accepted_total") == 40
        killed = children(server.process.pid)[0]
        os.kill(killed, signal.SIGKILL)
        await until(lambda: len(set(children(server.process.pid)) - {killed}) == 2)
        assert await metric(server, "tidegauge_values_accepted_total") == 40
        assert await server.end(signal.SIGTERM) == 0


async def test_standby_works_on_when_the_worker_with_the_lease_is_killed(tmp_path: Path, database: Database) -> None:
    async with working(tmp_path / "1", database) as first, working(tmp_path / "2", database) as second:
        assert await leads(first)
        assert not await leads(second)
        await first.end(signal.SIGKILL)
        await until_leads(second)
        assert await database.pool.fetchval("SELECT term FROM lease") == 2
        assert await second.end(signal.SIGTERM) == 0


async def test_standby_works_on_when_the_worker_with_the_lease_is_stopped(tmp_path: Path, database: Database) -> None:
    async with working(tmp_path / "1", database) as first, working(tmp_path / "2", database) as second:
        first.process.send_signal(signal.SIGSTOP)
        await until_leads(second)
        first.process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(STOP_S):
            while await leads(first):  # noqa: ASYNC110 -- another process has no event
                await asyncio.sleep(0.1)
        assert await leads(second)
        assert await first.end(signal.SIGTERM) == 0
        assert await second.end(signal.SIGTERM) == 0


@asynccontextmanager
async def working(folder: Path, database: Database) -> AsyncIterator[ServerProcess]:
    """Run a worker that answers probes until the block ends."""
    port = free_port()
    async with running(folder, "work", f"--port={port}", port=port, DATABASE_URL=database.dsn) as worker:
        yield worker


async def until_leads(worker: ServerProcess) -> None:
    async with asyncio.timeout(STOP_S):
        while not await leads(worker):  # noqa: ASYNC110 -- another process has no event
            await asyncio.sleep(0.1)


async def leads(worker: ServerProcess) -> bool:
    async with worker.http.get("/health/ready") as response:
        answer: bool = (await response.json())["leader"]
        return answer


async def test_api_takes_readings_and_warns_when_no_worker_runs(tmp_path: Path, database: Database) -> None:
    channels = [{"name": "duty", "type": "slack"}]
    await database.pool.execute("UPDATE worker_status SET channels = $1", channels)
    async with running(tmp_path, "serve", DATABASE_URL=database.dsn) as server:
        assert await server.post([{"sensor": "s", "values": {"m": 1}}]) == 200
        async with server.http.get("/health/ready") as response:
            ready = await response.json()
        assert (ready["status"], ready["leader"]) == ("ready", False)
        text = "worker: none runs, so rules are not evaluated and alerts not sent: start `tidegauge work`"
        assert ready["warnings"][0] == text
        async with server.http.post("/api/v1/channels/duty/test") as response:
            problem = await response.json()
        assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert problem["detail"] == "No worker runs, so nothing was sent. Start `tidegauge work`, then try again."
        assert await database.pool.fetchval("SELECT count(*) FROM channel_test") == 0


SILENCE_RULE = """
version: 1
rules:
  - name: dead
    sensors: {metric: m}
    levels: {warning: {above: 100}}
    no_data: {after: 5m, then: alert}
    notify: []
"""


async def test_nobody_is_silent_when_the_api_was_dead_for_ten_minutes(tmp_path: Path, database: Database) -> None:
    (tmp_path / "rules.yml").write_text(SILENCE_RULE)
    worker = Worker(Settings(database_url=database.dsn, rules_dir=tmp_path / "rules.yml"))
    async with running(tmp_path / "1", "serve", DATABASE_URL=database.dsn) as server:
        assert await server.post([{"sensor": "s", "values": {"m": 1}}]) == 200
        await server.end(signal.SIGKILL)
    async with worker.running():
        await database.pool.execute("UPDATE ingest_state SET beat_at = beat_at - INTERVAL '10 minutes'")
        await let_pass(database, minutes=10)
        assert await silent_alerts(worker) == 0
        async with running(tmp_path / "2", "serve", DATABASE_URL=database.dsn):
            assert await silent_alerts(worker) == 0
            await let_pass(database, minutes=4)
            assert await silent_alerts(worker) == 0
            await database.pool.execute("UPDATE ingest_state SET since = since - INTERVAL '2 minutes'")
            assert await silent_alerts(worker) == 1


async def let_pass(database: Database, minutes: int) -> None:
    """Move what silence is judged by into the past, but not the beats of the API."""
    shift = f"INTERVAL '{minutes} minutes'"
    await database.pool.execute(f"UPDATE series_state SET received_at = received_at - {shift}")
    await database.pool.execute(f"UPDATE ingest_state SET since = since - {shift}")


async def silent_alerts(worker: Worker) -> int:
    """Look for missing data, and return the number of alerts about it."""
    await worker.alerting.watch_silence(worker.pool, worker.lease.term)
    found: int = await worker.pool.fetchval("SELECT count(*) FROM alert_episode WHERE kind = 'no_data'")
    return found
