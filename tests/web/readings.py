"""Readings and rules for the tests of the page."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.conftest import Server

RULES = """
version: 1
rules:
  - name: too-warm
    sensors: {metric: temperature}
    levels:
      warning: {above: 20}
      critical: {above: 30}
    clear: {below: 18}
"""
BROKEN_RULES = """version: 1
rules:
  - name: broken
    sensors: {metric: level}
    levels:
      warning: {bellow: 20}
"""


async def post(
    server: Server,
    sensor: str,
    *,
    minutes_ago: float = 0,
    gateway: str | None = None,
    tags: dict[str, str] | None = None,
    values: dict[str, float] | None = None,
    **more_values: float,
) -> None:
    """Post one reading of a sensor; values are given by name, or in a dictionary."""
    time = (datetime.now(UTC) - timedelta(minutes=minutes_ago)).isoformat()
    reading = {"sensor": sensor, "time": time, "values": {**(values or {}), **more_values}, "tags": tags or {}}
    response = await server.post_readings({"gateway": gateway, "readings": [reading]})
    assert response.status == 200


def write_rules(folder: Path) -> Path:
    """Write a folder with a rule file."""
    (folder / "warm.yml").write_text(RULES)
    return folder
