"""A new channel, condition or body format is one file: a copy of the program finds and uses each without changes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import API_KEY, Database, project_folder, wait_until
from tests.processes import running
from tests.receivers import WebhookReceiver

CHANNEL = '''
"""Messages to a pager service: the plain text, posted as JSON."""

from typing import Final

import msgspec

from app.notify.message import RenderedMessage
from app.notify.message_lines import PLAIN, fit, write
from app.notify.pacing import SendLimit
from app.notify.transport import ChannelConfig, Delivered, Post, fingerprint, refusal, send_post

TYPE: Final = "pager"


class Config(ChannelConfig, frozen=True):
    """The address of the service and its access token."""

    address: str
    access_token: str


def check(config, endpoints):
    """Return what is wrong with the configuration, or None."""
    return None if config.address.startswith("http://127.0.0.1:") else "address must be on this machine"


def destination(config):
    """Return the destination's name, without the token."""
    return fingerprint(TYPE, config.address)


def limits(config):
    """Return the limit: ten messages a second."""
    return (SendLimit(destination(config), every_s=0.1, burst=10),)


def render(message):
    """Return the title and each entry as lines of text."""
    fitted = fit(message, lambda lines: len(write(lines, PLAIN)), 1_000)
    return RenderedMessage({"text": "\\n".join(write(lines, PLAIN) for lines in fitted.blocks())})


async def send(session, config, rendered, endpoints):
    """Post one message."""
    post = Post(config.address, msgspec.json.encode(rendered.body), {"X-Pager-Token": config.access_token})
    answer = await send_post(session, post)
    if answer.ok:
        return Delivered()
    raise refusal(answer, f"the pager service answered {answer.status}")
'''

CONDITION = '''
"""`at_least: 8.0`."""

import math

import msgspec


class AtLeast(msgspec.Struct, frozen=True, tag="at_least"):
    """Hold for the threshold and every greater value."""

    threshold: float

    def ranges(self):
        return ((self.threshold, math.inf),)
'''

FORMAT = '''
"""Lines of `sensor;metric;value`, at the time of receipt."""

from litestar import post
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK

from app.auth.guard import require
from app.ingest.checks import check_value
from app.ingest.formats import Parsed, ReceiptTimes
from app.http.requests import AnyRequest
from app.ingest.intake import Ingest
from app.ingest.uploads.receipt import Receipt, Rejected
from app.ingest.uploads.readings import Readings
from app.model import Reading


def parse(body: bytes, media_type: str, times: ReceiptTimes) -> Parsed:
    """Parse lines; reject each value that is not a number."""
    readings, rejected = [], Rejected()
    for index, line in enumerate(body.decode().splitlines()):
        sensor, metric, text = line.split(";")
        value = float(text) if text.replace(".", "", 1).isdigit() else text
        if refusal := check_value(metric, value):
            rejected.add(index, *refusal, metric=metric)
        else:
            readings.append(Reading(sensor, times.give(sensor), {metric: value}, index=index))
    return Parsed(Readings.of(readings), rejected)


@post("/api/v1/lines", guards=[require("ingest")], status_code=HTTP_200_OK)
async def post_lines(request: AnyRequest, ingest: NamedDependency[Ingest]) -> Receipt:
    """Store a batch of lines."""
    return await ingest.take(request, parse)


handlers = [post_lines]
'''

SHAPE = '''
"""Pairs of values by sensor: `{"pairs": {"tank": ["level", 8]}}`."""

from typing import Final

from app.ingest.formats.shapes import Shape


def read(document, source):
    """Yield a reading for each pair."""
    for index, (sensor, (metric, value)) in enumerate(document.get("pairs").items()):
        yield index, {"sensor": sensor, "values": {metric: value}}


SHAPE: Final = Shape(
    example={"pairs": {"tank": ["level", 8]}},
    fits=lambda document: "pairs" in (document.names or ()),
    read=read,
    fields=("pairs",),
)
'''

RULES = """
version: 1
rules:
  - name: full
    sensors: {metric: level}
    levels: {critical: {at_least: 8.0}}
    notify: [duty]
channels:
  duty: {type: pager, address: "ADDRESS", access_token: "${CHANNEL_PAGER_TOKEN}"}
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A copy of the program with one made-up file of each kind."""
    copy = tmp_path / "program"
    for folder in ("app", "migrations", "rules"):
        shutil.copytree(project_folder() / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "app/notify/channels/pager.py").write_text(CHANNEL)
    (copy / "app/alerting/conditions/at_least.py").write_text(CONDITION)
    (copy / "app/ingest/formats/lines.py").write_text(FORMAT)
    (copy / "app/ingest/formats/shapes/pairs.py").write_text(SHAPE)
    return copy


def run_module(program: Path, *arguments: str) -> str:
    """Run `python -m …` on the copy and return its standard output."""
    environ = {"PYTHONPATH": str(program), "PATH": "/usr/bin:/bin", "CHANNEL_PAGER_TOKEN": "s3cret"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=program, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_made_up_channel_condition_format_and_shape_are_used_when_added_to_the_program(
    program: Path, database: Database, tmp_path: Path
) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    async with WebhookReceiver() as pager:
        (rules / "full.yml").write_text(RULES.replace("ADDRESS", f"{pager.url}/page"))
        async with running(
            tmp_path / "run",
            "up",
            DATABASE_URL=database.dsn,
            PYTHONPATH=str(program),
            RULES_DIR=str(rules),
            CHANNEL_PAGER_TOKEN="s3cret",
        ) as server:
            receipt = await post(server.http, "/api/v1/lines", b"tank;level;8\ntank;level;much\npump;level;7.9\n")
            assert (receipt["accepted"], receipt["rejected_count"]) == (2, 1)
            assert receipt["rejected"][0]["code"] == "value_not_a_number"
            receipt = await post(
                server.http, "/api/v1/readings", b'{"pairs": {"a": ["level", 1], "b": ["level", "x"]}}'
            )
            assert (receipt["accepted"], receipt["rejected_count"]) == (1, 1)
            await wait_until(lambda: len(pager.accepted) == 1)
            (message,) = pager.accepted
            assert message.path == "/page"
            assert message.headers["X-Pager-Token"] == "s3cret"
            assert "tank level 8, at least 8" in message.body["text"]
            alerts = await (await server.http.get("/api/v1/alerts")).json()
            assert [(item["sensor"], item["peak"]) for item in alerts["items"]] == [("tank", 8.0)]
            listed = await (await server.http.get("/api/v1/rules")).json()
            assert listed["items"][0]["levels"] == {"critical": "at_least 8"}
            described = await (await server.http.get("/schema/openapi.json")).json()
            assert "/api/v1/lines" in described["paths"]


def test_made_up_channel_and_condition_are_in_check_and_schema_when_added(program: Path, tmp_path: Path) -> None:
    rules = tmp_path / "full.yml"
    rules.write_text(RULES.replace("ADDRESS", "http://127.0.0.1:9/page"))
    assert "1 rule, 1 channel" in run_module(program, "app", "check", str(rules))
    run_module(program, "app.alerting.language.schema")
    schema = json.loads((program / "rules/schema.json").read_text())
    assert schema["definitions"]["channel-pager"]["required"] == ["type", "access_token", "address"]
    assert schema["definitions"]["level"]["properties"]["at_least"]["type"] == "number"


async def post(http: aiohttp.ClientSession, path: str, body: bytes) -> Any:
    """Post a body with the test's key and return the receipt."""
    async with http.post(path, data=body, headers={"X-API-Key": API_KEY}) as response:
        assert response.status == 200, await response.text()
        return await response.json()
