"""The complete application."""

import pytest

from app.errors import SettingsError
from app.main import create_app
from app.services import Services
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, YESTERDAY, Database, Server, running_server

NOWHERE = "postgresql://nobody@127.0.0.1/none"


def test_app_is_refused_when_it_has_no_database() -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL is not set"):
        create_app(Settings(api_key="k"))


def test_apps_keep_their_metrics_apart_when_two_run_in_one_process() -> None:
    first, second = (create_app(Settings(database_url=NOWHERE, api_key="k")).state.services for _ in range(2))
    first.metrics.readings_accepted.inc(5)
    assert second.metrics.registry.get_sample_value("tidegauge_values_accepted_total") == 0


async def test_app_answers_with_a_problem_when_the_path_does_not_exist(server: Server) -> None:
    async with server.http.get("/api/v1/nothing") as response:
        assert response.content_type == "application/problem+json"
        problem = await response.json()
    assert {name: problem[name] for name in ("type", "title", "status")} == {
        "type": "/problems/not_found",
        "title": "Not found",
        "status": 404,
    }


async def test_app_reveals_no_internals_when_a_handler_fails(server: Server, database: Database) -> None:
    await database.pool.execute("ALTER TABLE sensor RENAME TO sensor_away")
    async with server.http.get("/api/v1/sensors") as response:
        assert response.status == 500
        problem = await response.json()
    assert problem == {
        "type": "/problems/internal",
        "title": "Something went wrong",
        "status": 500,
        "detail": "The server's log has the cause under this request id.",
        "request_id": response.headers["X-Request-ID"],
    }


async def test_apps_share_stored_readings_when_they_have_one_database(database: Database) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)
    async with running_server(settings) as first, running_server(settings) as second:
        services: list[Services] = [first.services, second.services]
        assert services[0].hub is not services[1].hub
        readings = [{"sensor": "s", "time": f"{YESTERDAY}T08:00:00Z", "values": {"m": 1}}]
        answers = [await (await server.post_readings(readings)).json() for server in (first, second)]
        assert [(answer["accepted"], answer["duplicates"]) for answer in answers] == [(1, 0), (0, 1)]
        for server in (first, second):
            items = (await server.get("/api/v1/sensors"))["items"]
            assert isinstance(items, list)
            assert [item["name"] for item in items] == ["s"]
