"""The receiver of `make demo`: the text that it prints for a message, and its channel beside the rules."""

import re
from pathlib import Path

import aiohttp
import pytest

from app.alerting.rules.model import Route
from app.alerting.service import make_rule_keeper
from app.metrics import Metrics
from app.settings import Settings
from app.simulate.receiver import demo_receiver
from tests.alerting.harness import WARM
from tests.conftest import Database


async def test_receiver_prints_title_and_text_of_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = {
        "topic": "demo",
        "title": "1 info: pressure-falling [1]",
        "message": "ℹ️ roof pressure (delta 3h) -3.2 hPa, below -3 hPa\nsince 10:00 CEST\n\nℹ️ gateway [1]",
        "tags": ["ℹ️"],
    }
    async with (
        demo_receiver() as variables,
        aiohttp.ClientSession() as http,
        http.post(variables["CHANNEL_DEMO_URL"], json=message) as response,
    ):
        assert response.status == 200
        assert await response.json() == {"id": "demo"}
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"ℹ️ 1 info: pressure-falling \[1\]  [0-9:]{8} to demo", lines[1])
    assert lines[2:] == [
        "   ℹ️ roof pressure (delta 3h) -3.2 hPa, below -3 hPa",
        "   since 10:00 CEST",
        "",
        "   ℹ️ gateway [1]",
    ]


async def test_channel_of_the_demo_joins_the_rules_of_the_folder_when_they_are_edited(
    tmp_path: Path, database: Database
) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(f"version: 1\nrules:{WARM}".replace("notify: [ops]", ""))
    async with demo_receiver() as variables:
        keeper = make_rule_keeper(Settings(rules_dir=tmp_path, channel_variables=variables), Metrics())
        assert await keeper.reload(database.pool), keeper.problems
        # The other channels of the demo get only what its own rule sends to them.
        assert {rule.name: rule.terms.notify for rule in keeper.rules.rules} == {
            "warm": ("demo",),
            "dairy-offline": ("demo",),
        }
        assert keeper.rules.rules[-1].terms.routes == (Route(("demo-duty",), {"site": "dairy"}),)
        file.write_text(file.read_text().replace("warm", "cold"))
        assert await keeper.reload(database.pool), keeper.problems
        assert {rule.name for rule in keeper.rules.rules} == {"cold", "dairy-offline"}
