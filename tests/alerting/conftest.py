"""The fixture `harness`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.alerting import service
from app.notify.dispatch import dispatcher
from tests.alerting.harness import AlertingHarness, running_harness
from tests.conftest import Database


@pytest.fixture
async def harness(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AlertingHarness]:
    """Run alerting on the test's database; it plans at every tick and delivers at once."""
    monkeypatch.setattr(service, "PLAN_EVERY_S", -1.0)
    monkeypatch.setattr(dispatcher, "POLL_S", 0.02)
    async with running_harness(database, tmp_path) as running:
        yield running
