"""An office for every test that asks for one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.alerting import service
from app.notify import dispatcher
from tests.alerting.office import Office, opened_office
from tests.conftest import Database


@pytest.fixture
async def office(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    """Alerting on the test's database that plans at every tick and delivers at once."""
    monkeypatch.setattr(service, "PLAN_EVERY_S", -1.0)
    monkeypatch.setattr(dispatcher, "POLL_S", 0.02)
    async with opened_office(database, tmp_path) as opened:
        yield opened
