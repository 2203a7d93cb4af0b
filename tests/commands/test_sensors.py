"""`tidegauge sensor`, run in separate processes beside a server."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Database, running_server
from tests.processes import Ran, tidegauge

RULES = """
version: 1
rules:
  - {name: every, sensors: {metric: t}, levels: {warning: {above: 8}}}
  - {name: cellar-only, sensors: {id: cellar, metric: t}, levels: {warning: {above: 8}}}
"""


class Commands:
    """`tidegauge sensor …` on a database."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self._folder = folder
        self._dsn = dsn

    async def run(self, *arguments: str, answers: str = "") -> Ran:
        """Run one command, with answers on standard input."""
        return await asyncio.to_thread(
            tidegauge, self._folder, "sensor", *arguments, answers=answers, DATABASE_URL=self._dsn, COLUMNS="200"
        )

    async def list(self, *options: str) -> list[dict[str, Any]]:
        """Return what `sensor list --json` prints."""
        items: list[dict[str, Any]] = (await self.run("list", "--json", *options)).json
        return items


@pytest.fixture
def sensor(database: Database, tmp_path: Path) -> Commands:
    return Commands(tmp_path, database.dsn)


async def test_sensor_is_described_renamed_retired_and_deleted_from_the_command_line(
    database: Database, tmp_path: Path, sensor: Commands
) -> None:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "rules.yml").write_text(RULES)
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, rules_dir=folder)
    async with running_server(settings) as server:
        await server.post_readings([{"sensor": "cellar", "values": {"t": 5, "h": 50}, "tags": {"floor": "-1"}}])
        options = ("--display-name", "Wine [old]", "--unit", "t=°C", "--unit", "h=%", "--tag", "site=quay")
        ran = await sensor.run("set", "cellar", *options, "--expected-interval", "5m", "--notes", "Two doors")
        assert (ran.code, ran.out) == (0, "changed cellar\n")
        (item,) = await sensor.list()
        assert (item["display_name"], item["tags"], item["notes"]) == ("Wine [old]", {"site": "quay"}, "Two doors")
        assert (item["expected_interval"], item["latest"]["t"]["unit"], item["latest"]["h"]["unit"]) == (
            300.0,
            "°C",
            "%",
        )
        table = (await sensor.run("list")).out
        assert "Wine [old]" in table
        assert "site=quay" in table
        await sensor.run("set", "cellar", "--display-name", "", "--unit", "t=", "--uploaded-tags")
        (item,) = await sensor.list()
        assert (item["display_name"], item["tags"], item["latest"]["t"]["unit"]) == (None, {"floor": "-1"}, None)

        ran = await sensor.run("rename", "cellar", "wine")
        assert (ran.code, ran.out.splitlines()) == (
            0,
            [
                "renamed cellar to wine",
                "rule cellar-only no longer selects it: change the id in its `sensors`",
            ],
        )
        assert (await sensor.run("set", "wine", "--forget-name", "nobody")).refusal.endswith(
            "'nobody' is not an old name of it; it has cellar"
        )
        await sensor.run("rename", "wine", "rosé")
        await sensor.run("rename", "rosé", "wine")
        assert (await sensor.list())[0]["old_names"] == ["cellar", "rosé"]
        await sensor.run("set", "wine", "--forget-name", "rosé")
        assert (await sensor.list())[0]["old_names"] == ["cellar"]

        ran = await sensor.run("rename", "nobody", "x")
        assert (ran.code, ran.err) == (
            1,
            "Not found: There is no sensor 'nobody'; /api/v1/sensors lists them\n",
        )

        ran = await sensor.run("retire", "cellar")
        assert (ran.code, ran.out) == (0, "retired cellar; it comes back when it reports again\n")
        assert await sensor.list() == []
        assert [item["state"] for item in await sensor.list("--retired")] == ["retired"]
        await sensor.run("retire", "wine", "--undo")
        assert [item["state"] for item in await sensor.list()] == ["ok"]

        ran = await sensor.run("delete", "wine", answers="n\n")
        assert ran.code == 1
        ran = await sensor.run("delete", "wine", answers="y\ncellar\n")
        assert ran.code == 1
        assert "nothing was deleted" in ran.err
        assert [item["name"] for item in await sensor.list()] == ["wine"]
        ran = await sensor.run("delete", "cellar", answers="y\nwine\n")
        assert (ran.code, ran.out) == (0, "deleted wine\n")
        assert "Delete wine (h, t) with 2 readings, for good?" in ran.err
        assert await sensor.list("--retired") == []
        await server.post_readings([{"sensor": "cellar", "values": {"t": 5}}])
        assert (await sensor.run("delete", "cellar", "--yes")).out == "deleted cellar\n"


async def test_set_is_wrong_usage_without_an_option_or_with_a_malformed_one(sensor: Commands) -> None:
    for arguments in (("set", "x"), ("set", "x", "--unit", "t"), ("set", "x", "--tag", "=y")):
        ran = await sensor.run(*arguments)
        assert (ran.code, ran.out) == (2, "")
