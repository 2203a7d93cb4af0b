"""The limits of a sensor, as lines for charts."""

from pathlib import Path

from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Database, running_server

RULES = """
version: 1
rules:
  - name: room
    sensors: {metric: temperature}
    levels:
      warning: {outside: [10, 30]}
      critical: {above: 40}
"""


async def test_limits_are_those_of_the_rules_in_force(database: Database, tmp_path: Path) -> None:
    (tmp_path / "room.yml").write_text(RULES)
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, rules_dir=tmp_path)
    async with running_server(settings) as server:
        await server.post_readings([{"sensor": "attic", "values": {"temperature": 20, "humidity": 50}}])
        await server.watch_silence()
        answer = await server.get("/api/v1/limits", sensor="attic")
        assert await server.get("/api/v1/limits", sensor="nobody") == {"items": [], "next": None}
    assert answer["items"] == [
        {"metric": "temperature", "rule": "room", "level": "warning", "side": "below", "number": 10.0},
        {"metric": "temperature", "rule": "room", "level": "warning", "side": "above", "number": 30.0},
        {"metric": "temperature", "rule": "room", "level": "critical", "side": "above", "number": 40.0},
    ]
