"""The table in the documents is that of the program: nothing is lost or doubled, whichever client sends."""

import shutil
from pathlib import Path

import pytest

from tests.clients.table import HEADS, measure, render
from tests.docs.documents import rows
from tests.mqtt.mosquitto import is_installed


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_no_client_loses_or_doubles_a_reading_when_server_and_database_are_killed(tmp_path: Path) -> None:
    table = await measure(tmp_path)
    assert [(row.client, row.lost, row.doubled) for row in table if row.lost or row.doubled] == [], render(table)
    assert all(row.sent for row in table), render(table)
    documented = [cells[0] for cells in rows("docs/clients.md", f"| {' | '.join(HEADS)} |")]
    expected = [row.client for row in table]
    missing = {"prometheus, agent mode": shutil.which("prometheus"), "mosquitto_pub, by tidegauge mqtt": is_installed()}
    assert expected == [name for name in documented if missing.get(name, True)]


def test_documented_table_has_no_loss() -> None:
    assert {(lost, doubled) for *_, lost, doubled in rows("docs/clients.md", f"| {' | '.join(HEADS)} |")} == {
        ("0", "0")
    }
