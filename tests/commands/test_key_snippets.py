"""The examples that `tidegauge key create` prints work as they are, and say what the documents say."""

import asyncio
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from ruamel.yaml import YAML

from app.auth.keys import Binding, create_key
from app.commands.key_snippets import write_snippets
from app.settings import Settings
from tests.conftest import Database, Server, project_folder

_CLIENTS = (project_folder() / "docs" / "clients.md").read_text()


def _snippets(address: str, key: str = "tg_x", gateway: str | None = None) -> list[str]:
    """Return the examples of curl, Telegraf and Home Assistant for a server."""
    parts = urlsplit(address)
    text = write_snippets(key, Settings(host=str(parts.hostname), port=int(parts.port or 0)), gateway)
    return re.split(r"\n\n(?=Send a|Telegraf,|Home Assistant,|Readings sent)", f"\n{text}")[1:]


async def test_examples_write_with_the_key(server: Server, database: Database, tmp_path: Path) -> None:
    key = await create_key(database.pool, "roof", frozenset({"ingest"}), {}, Binding("roof"))
    curl, telegraf, _, note = _snippets(server.address, key, "roof")
    command = curl.partition("\n\n")[2]
    process = await asyncio.create_subprocess_exec("bash", "-c", command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert b'"accepted":1,' in printed
    (output,) = tomllib.loads(telegraf.partition("\n\n")[2])["outputs"]["influxdb_v2"]
    await asyncio.to_thread(_write_line, output)
    found: Any = await server.get("/api/v1/sensors")
    assert [(each["name"], each["gateway"], list(each["latest"])) for each in found["items"]] == [
        ("cellar", "roof", ["temperature"]),
        ("roof", "roof", ["battery"]),
    ]
    assert note == "Readings sent with this key are those of the gateway roof."


def _write_line(output: dict[str, Any]) -> None:
    """Write as Telegraf does, by its settings."""
    (url,) = output["urls"]
    with InfluxDBClient(url, output["token"], org=output["organization"]) as client:
        client.write_api(SYNCHRONOUS).write(output["bucket"], record="battery,device=roof value=3.7")


def test_examples_have_the_settings_of_the_documents() -> None:
    _, telegraf, home_assistant = _snippets("http://tidegauge.example:8000", "$API_KEY")
    (toml,) = re.findall(r"```toml\n(.*?)```", _CLIENTS, re.DOTALL)
    assert tomllib.loads(telegraf.partition("\n\n")[2]) == tomllib.loads(toml)
    documented = next(each for each in re.findall(r"```yaml\n(.*?)```", _CLIENTS, re.DOTALL) if "influxdb:" in each)
    printed = YAML(typ="safe").load(home_assistant.partition("\n\n")[2])
    assert printed == YAML(typ="safe").load(documented.replace("!secret tidegauge_key", "$API_KEY"))


@pytest.mark.parametrize(
    ("settings", "address", "host", "port", "has_tls", "path"),
    [
        (Settings(host="0.0.0.0", port=8123), "http://127.0.0.1:8123", "127.0.0.1", "8123", "false", None),
        (Settings(host="::1"), "http://[::1]:8000", "::1", "8000", "false", None),
        (Settings(root_path="/tide"), "http://127.0.0.1:8000/tide", "127.0.0.1", "8000", "false", "/tide"),
        (Settings(public_url="https://t.example/"), "https://t.example", "t.example", "443", "true", None),
        (Settings(public_url="http://t.example"), "http://t.example", "t.example", "80", "false", None),
    ],
)
def test_examples_have_the_address_at_which_the_server_is_reached(
    settings: Settings, address: str, host: str, port: str, has_tls: str, path: str | None
) -> None:
    text = write_snippets("tg_key", settings, None)
    assert f'curl "{address}/api/v1/readings" -H "X-API-Key: tg_key"' in text
    assert f'urls = ["{address}"]' in text
    for name, value in (("host", host), ("port", port), ("ssl", has_tls)):
        assert re.search(rf"^  {name}: (.*)$", text, re.MULTILINE)[1] == value  # type: ignore[index]
    found = re.search(r"^  path: (.*)$", text, re.MULTILINE)
    assert (found and found[1]) == path


def test_examples_name_the_gateway_of_a_bound_key() -> None:
    text = write_snippets("tg_key", Settings(), "harbour")
    assert text.endswith("\n\nReadings sent with this key are those of the gateway harbour.")
