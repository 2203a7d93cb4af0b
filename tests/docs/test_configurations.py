"""The configurations in documents for programs that the tests do not have, compared with what the server takes."""

import re
import tomllib
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from ruamel.yaml import YAML

from tests.conftest import API_KEY, Server
from tests.docs.documents import DOCUMENTS, blocks, prose, read

EXAMPLE = "http://tidegauge.example:8000"
POINT = "temperature,device=cellar value=12.5"


def configuration(beginning: str) -> str:
    """Return the block of docs/clients.md that begins with a text."""
    (block,) = [block for block in blocks("docs/clients.md") if block.text.startswith(beginning)]
    return block.text


async def write_point(server: Server, base: str, token: str, **query: str) -> int:
    """Write a point as clients of InfluxDB 2 do, to the server in place of `base`; return the status."""
    assert base == EXAMPLE
    headers = {"Authorization": f"Token {token}"}
    async with (
        aiohttp.ClientSession(server.address) as http,
        http.post("/api/v2/write", data=POINT, headers=headers, params=query) as response,
    ):
        return response.status


async def test_telegraf_writes_where_its_configuration_says(server: Server) -> None:
    (output,) = tomllib.loads(configuration("[[outputs.influxdb_v2]]"))["outputs"]["influxdb_v2"]
    assert output.keys() == {"urls", "token", "organization", "bucket"}
    assert output["token"] == "$API_KEY"
    query = {"org": output["organization"], "bucket": output["bucket"], "precision": "ns"}
    assert await write_point(server, output["urls"][0], API_KEY, **query) == 204


async def test_home_assistant_writes_where_its_configuration_says(server: Server) -> None:
    influxdb = load(configuration("influxdb:"))["influxdb"]
    assert influxdb.keys() == {"api_version", "ssl", "host", "port", "token", "organization", "bucket"}
    assert (influxdb["api_version"], influxdb["ssl"]) == (2, False)
    query = {"org": influxdb["organization"], "bucket": influxdb["bucket"], "precision": "ns"}
    base = f"http://{influxdb['host']}:{influxdb['port']}"
    assert await write_point(server, base, API_KEY, **query) == 204


async def test_prometheus_writes_where_its_configuration_says(server: Server) -> None:
    (remote,) = load(configuration("remote_write:"))["remote_write"]
    assert remote.keys() == {"url", "authorization"}
    assert remote["authorization"].keys() == {"credentials_file"}
    address = urlsplit(remote["url"])
    assert f"{address.scheme}://{address.netloc}" == EXAMPLE
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Encoding": "snappy"}
    nothing = b"\0"
    async with (
        aiohttp.ClientSession(server.address) as http,
        http.post(address.path, data=nothing, headers=headers) as response,
    ):
        assert response.status == 204


async def test_addresses_of_network_servers_are_routes(server: Server) -> None:
    paths = {urlsplit(address).path for address in re.findall(rf"{EXAMPLE}[\w/]+", prose("docs/clients.md"))}
    assert paths
    document: Any = await server.get("/schema/openapi.json")
    assert paths <= document["paths"].keys()


def test_docker_compose_is_given_services_that_it_has() -> None:
    services = load(read("docker-compose.yml"))["services"].keys()
    lines = "\n".join(block.text for document in DOCUMENTS for block in blocks(document)).splitlines()
    # Words without the dash of an option or the punctuation of a value: commands of docker compose, and services.
    words = {word for line in lines for word in line.partition("docker compose ")[2].partition("#")[0].split()}
    named = {word for word in words if word.isalpha()} - {"up", "run", "rm", "stop", "exec", "import", "psql"}
    assert "db" in named
    assert named <= services


def load(text: str) -> Any:
    """Read YAML; a tag, such as `!secret`, is left out."""
    return YAML().load(text)
