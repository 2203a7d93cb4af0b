"""The receiver of `make demo`: the text that it prints for a message."""

from pathlib import Path

import aiohttp
import pytest

from app.settings import Settings
from app.simulate.receiver import demo_receiver

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
        demo_receiver(Settings(rules_dir=tmp_path / "rules", data_dir=tmp_path)) as settings,
        aiohttp.ClientSession() as http,
        http.post(settings.environment["DEMO_RECEIVER_URL"], json=message) as response,
    ):
        assert response.status == 200
    assert capsys.readouterr().err.splitlines() == [
        "",
        "⚠️ pressure-falling: firing",
        "   roof pressure -3.22 hPa since 2026-06-01T08:00  rain is near",
        "   roof pressure 0 hPa until 2026-06-01T09:00",
        "   gateway [1]",
    ]
