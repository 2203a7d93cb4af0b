"""Fixtures: a server that tests may kill and stop, and a migrated database on it for each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.conftest import copied, make_template
from tests.faults.victim import VictimServer, victim_server


@pytest.fixture(scope="session")
def victim(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[VictimServer]:
    """An embedded server for the tests of this folder alone, with a template; DATABASE_URL does not count."""
    with victim_server(tmp_path_factory.mktemp(f"victim-{worker_id}")) as victim:
        asyncio.run(make_template(victim.server.dsn, victim.template))
        yield victim


@pytest.fixture
async def victim_dsn(victim: VictimServer) -> AsyncIterator[str]:
    """The address of a migrated database on that server."""
    victim.server.restart_if_dead()
    async with copied(victim.server.dsn, victim.template) as dsn:
        yield dsn
