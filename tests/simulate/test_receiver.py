"""The receiver of `make demo`: the text that it prints for a message, and its channel beside the rules."""

from pathlib import Path

import aiohttp
import pytest

from app.alerting.service import make_rule_keeper
from app.metrics import Metrics
from app.settings import Settings
from app.simulate.receiver import demo_receiver
from tests.alerting.harness import WARM
from tests.conftest import Database

ENTRY = {"sensor": "roof", "metric": "pressure", "unit": "hPa", "note": "rain is near"}


async def test_receiver_prints_title_and_entries_of_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = {
        "emoji": "⚠️",
        "title": "pressure-falling: firing",
        "entries": [
            {**ENTRY, "value": -3.2200000000000273, "since": "2026-06-01T08:00:00Z"},
            {**ENTRY, "value": 0, "until": "2026-06-01T09:00:00Z", "note": ""},
            {"sensor": "gateway [1]", "metric": "", "value": None},
        ],
    }
    async with (
        demo_receiver() as variables,
        aiohttp.ClientSession() as http,
        http.post(variables["CHANNEL_DEMO_URL"], json=message) as response,
    ):
        assert response.status == 200
    assert capsys.readouterr().err.splitlines() == [
        "",
        "⚠️ pressure-falling: firing",
        "   roof pressure -3.22 hPa since 2026-06-01T08:00  rain is near",
        "   roof pressure 0 hPa until 2026-06-01T09:00",
        "   gateway [1]",
    ]


async def test_channel_of_the_demo_joins_the_rules_of_the_folder_when_they_are_edited(
    tmp_path: Path, database: Database
) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(f"version: 1\nrules:{WARM}".replace("notify: [ops]", ""))
    async with demo_receiver() as variables:
        keeper = make_rule_keeper(Settings(rules_dir=tmp_path, channel_variables=variables), Metrics())
        assert await keeper.reload(database.pool), keeper.problems
        assert [rule.terms.notify for rule in keeper.rules.rules] == [("demo",)]
        file.write_text(file.read_text().replace("warm", "cold"))
        assert await keeper.reload(database.pool), keeper.problems
        assert [rule.name for rule in keeper.rules.rules] == ["cold"]
