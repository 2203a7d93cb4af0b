"""Fixtures for all tests: a TimescaleDB server, a migrated database for each test, and the application on a port."""

import asyncio
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg
import msgspec
import pytest
import uvicorn
from litestar import Litestar

from app.commands.processes.server import uvicorn_config
from app.db.embedded.cluster import cluster_folder
from app.db.embedded.server import EmbeddedServer
from app.db.migrations import migrate, set_password
from app.db.pool import READER_ROLE, Connection, Pool, open_pool
from app.main import create_app
from app.notify.transport import Endpoints, open_session
from app.services import Services
from app.settings import Settings
from app.worker import Worker
from tests.receivers import SlackReceiver, TelegramReceiver, WebhookReceiver
from tests.visitors import see_visitors_off
from tests.wire import Wire, pool_over, wire_to

API_KEY = "test-http-key"
API_KEY_WS = "test-ws-key"
#: A day whose readings ingest always accepts: neither in the future nor older than 399 days.
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
#: 08:00 UTC on that day, in milliseconds since 1970.
YESTERDAY_AT_8_MS = int(datetime.fromisoformat(f"{YESTERDAY}T08:00:00Z").timestamp()) * 1_000
_READER_PASSWORD = "reader"
#: A file system in memory, and how much must be free there: a test worker needs a tenth of it.
_MEMORY, _MEMORY_BYTES = Path("/dev/shm"), 2 * 2**30  # noqa: S108 -- with a folder of our own in it
#: Test data need not survive a power cut, and a database with background workers cannot be copied as a template.
_SERVER_OPTIONS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "tidegauge.may_lose_readings": "on",
    "max_connections": "200",
    "timescaledb.max_background_workers": "0",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests that last long to `make soak`."""
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="lasts long: runs in make soak, or with --slow"))


@pytest.fixture(scope="session")
def server_dsn(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[str]:
    """The server for all databases of this test worker: that of DATABASE_URL if set, else an embedded server."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield given
        return
    folder = tmp_path_factory.mktemp(f"server-{worker_id}")
    try:
        with (
            _memory_folder() as memory,
            EmbeddedServer.start(folder, say=lambda line: None, options=_SERVER_OPTIONS) as server,
        ):
            if memory is not None:
                owner = (cluster_folder(folder) / "data").stat()
                os.chown(memory, owner.st_uid, owner.st_gid)
                asyncio.run(_use_folder(server.dsn, memory))
            yield server.dsn
    finally:
        # For root, the data are outside the folder.
        shutil.rmtree(cluster_folder(folder), ignore_errors=True)


@contextmanager
def _memory_folder() -> Iterator[str | None]:
    """Yield a folder in memory, removed after the block; None if there is too little room.

    ext4 gives the place of a deleted file to no other for a minute. Each test makes 600 files and deletes them, so half
    of the time of a server on a disk would go into looking for places.
    """
    if not os.access(_MEMORY, os.W_OK) or shutil.disk_usage(_MEMORY).free < _MEMORY_BYTES:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="tidegauge-tests-", dir=_MEMORY) as folder:
        yield folder


async def _use_folder(dsn: str, folder: str) -> None:
    """Let new databases of a server live in a folder."""
    async with _connected(dsn) as connection:
        await connection.execute(f"CREATE TABLESPACE memory LOCATION '{folder}'")
        # A new database lives where its template does.
        await connection.execute("ALTER DATABASE template1 SET TABLESPACE memory")


@pytest.fixture(scope="session")
def template(server_dsn: str, worker_id: str) -> Iterator[str]:
    """A migrated database that is copied for each test; migrating for each test would take three times as long."""
    name = f"tidegauge_template_{worker_id}_{os.getpid()}"
    asyncio.run(make_template(server_dsn, name))
    yield name
    asyncio.run(_drop(server_dsn, name))


@pytest.fixture
async def empty_dsn(server_dsn: str) -> AsyncIterator[str]:
    """The address of an empty database, which is not migrated."""
    name = f"tidegauge_test_{secrets.token_hex(6)}"
    async with _connected(server_dsn) as connection:
        await connection.execute(f'CREATE DATABASE "{name}"')
    yield _with_database(server_dsn, name)
    await _drop(server_dsn, name)


class Database:
    """The migrated database of one test."""

    def __init__(self, dsn: str, pool: Pool) -> None:
        self.dsn = dsn
        self.pool = pool
        address = urlsplit(dsn)
        host = address.netloc.rpartition("@")[2]
        reader = address._replace(netloc=f"tidegauge_reader:{_READER_PASSWORD}@{host}")
        #: The address of the same database for the read-only role.
        self.reader_dsn = urlunsplit(reader)


@pytest.fixture
async def database(server_dsn: str, template: str) -> AsyncIterator[Database]:
    """A migrated database without readings, dropped after the test."""
    async with copied(server_dsn, template) as dsn:
        pool = await open_pool(dsn, min_size=1, max_size=4)
        try:
            yield Database(dsn, pool)
        finally:
            pool.terminate()


@asynccontextmanager
async def copied(server_dsn: str, template: str) -> AsyncIterator[str]:
    """Copy the template until the block ends; yield the address of the copy."""
    name = f"tidegauge_test_{secrets.token_hex(6)}"
    async with _connected(server_dsn) as connection:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
    dsn = _with_database(server_dsn, name)
    try:
        if "DATABASE_URL" in os.environ:
            async with _connected(dsn) as connection:
                # A policy that runs between two steps of a test would change what the test sees.
                await connection.execute("SELECT _timescaledb_functions.stop_background_workers()")
                # The template is older than the intervals after which a policy that has not run is a problem.
                await connection.execute("UPDATE aggregates_built SET at = now()")
        yield dsn
    finally:
        await _drop(server_dsn, name)


class Server:
    """The API on a port, and a worker beside it, in this process."""

    def __init__(self, app: Litestar, worker: Worker, port: int, http: aiohttp.ClientSession) -> None:
        self.app = app
        self.worker = worker
        self.address = f"http://127.0.0.1:{port}"
        #: Sends API_KEY.
        self.http = http

    @property
    def services(self) -> Services:
        """Return the services of the application."""
        services: Services = self.app.state.services
        return services

    async def tick(self) -> None:
        """Evaluate all new readings and plan messages now."""
        await self.worker.alerting.tick(self.worker.pool, self.worker.lease.term)

    async def watch_silence(self) -> None:
        """Look for missing data now."""
        await self.worker.alerting.watch_silence(self.worker.pool, self.worker.lease.term)

    async def count_silence_from_the_beginning(self) -> None:
        """Let silence count as if this server had always taken uploads."""
        await self.worker.pool.execute("UPDATE ingest_state SET since = '2000-01-01'")

    async def post_readings(self, body: object, **options: object) -> aiohttp.ClientResponse:
        """Post JSON to /api/v1/readings and return the response, whose body is read."""
        async with self.http.post("/api/v1/readings", data=msgspec.json.encode(body), **options) as response:  # type: ignore[arg-type]
            await response.read()
            return response

    async def get(self, path: str, **params: str | int) -> dict[str, object]:
        """Get a path and return its JSON; any status but 200 fails the test."""
        async with self.http.get(path, params=params) as response:
            assert response.status == 200, await response.text()
            answer: dict[str, object] = await response.json()
            return answer


@pytest.fixture
async def server(database: Database) -> AsyncIterator[Server]:
    """The application on the test's database, with API_KEY and API_KEY_WS."""
    async with running_server(Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)) as running:
        yield running


@asynccontextmanager
async def running_server(settings: Settings) -> AsyncIterator[Server]:
    """Run the API on a free port, and a worker, until the block ends."""
    worker = Worker(settings)
    async with running_api(settings, worker) as server, worker.running():
        yield server


@asynccontextmanager
async def running_api(settings: Settings, worker: Worker) -> AsyncIterator[Server]:
    """Run the API on a free port until the block ends, without starting the worker."""
    app = create_app(settings)
    listening = socket.create_server(("127.0.0.1", 0))
    uvicorn_server = uvicorn.Server(uvicorn_config(app, grace_s=2))
    serving = asyncio.create_task(uvicorn_server._serve(sockets=[listening]))
    try:
        await wait_until(lambda: uvicorn_server.started or serving.done())
        if serving.done():
            serving.result()
            pytest.fail("the server did not start; its log says why")
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with aiohttp.ClientSession(address, headers={"X-API-Key": API_KEY}) as http:
            yield Server(app, worker, listening.getsockname()[1], http)
    finally:
        await see_visitors_off()
        uvicorn_server.should_exit = True
        await serving
        listening.close()


@pytest.fixture
async def wire(database: Database) -> AsyncIterator[Wire]:
    """A connection to the test's database that a test can cut and freeze."""
    async with wire_to(database.dsn) as opened:
        yield opened


@pytest.fixture
async def wired_pool(wire: Wire) -> AsyncIterator[Pool]:
    """A pool whose database can be taken away."""
    async with pool_over(wire) as pool:
        yield pool


@pytest.fixture
async def slack() -> AsyncIterator[SlackReceiver]:
    async with SlackReceiver(every_s=None) as receiver:
        yield receiver


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramReceiver]:
    async with TelegramReceiver(every_s=None) as receiver:
        yield receiver


@pytest.fixture
async def webhook() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as receiver:
        yield receiver


@pytest.fixture
def endpoints(slack: SlackReceiver, telegram: TelegramReceiver) -> Endpoints:
    return Endpoints(slack_webhook_prefix=slack.prefix, telegram_api_base=telegram.url)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened:
        yield opened


@pytest.fixture
async def impatient_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session with a short timeout, for receivers that do not answer."""
    async with open_session(total_timeout_s=0.1) as opened:
        yield opened


async def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait until a condition is true; raise TimeoutError after `timeout_s`."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 -- conditions have no event
            await asyncio.sleep(0.005)


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def make_template(server_dsn: str, name: str) -> None:
    """Make a migrated database with a reader, which nobody may connect to, so that it can be copied."""
    async with _connected(server_dsn) as connection:
        await connection.execute(f'CREATE DATABASE "{name}"')
    dsn = _with_database(server_dsn, name)
    await migrate(dsn)
    await set_password(dsn, READER_ROLE, _READER_PASSWORD)
    async with _connected(server_dsn) as connection:
        # Background workers of a server that has them would stay connected, and a template in use cannot be copied.
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)


async def _drop(server_dsn: str, name: str) -> None:
    async with _connected(server_dsn) as connection:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def _with_database(dsn: str, name: str) -> str:
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def project_folder() -> Path:
    """Return the folder of the checkout."""
    return Path(__file__).parents[1]
