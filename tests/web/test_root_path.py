"""The path prefix, as requests that a proxy passes on carry it."""

import msgspec
import pytest

from app.errors import SettingsError
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Database, running_server


async def test_server_answers_with_and_without_the_prefix_when_one_is_set(database: Database) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, root_path="/tide/gauge")
    async with running_server(settings) as server:
        for path in ("/tide/gauge/api/v1/sensors", "/api/v1/sensors", "/tide/gauge/static/page.js"):
            async with server.http.get(path) as response:
                assert response.status == 200, path
        for path in ("/tide/gauged", "/tide/api/v1/sensors"):
            async with server.http.get(path) as response:
                assert response.status == 404, path
        async with server.http.get("/tide/gauge", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (308, "/tide/gauge/")
        async with server.http.get("/tide/gauge/schema/openapi.json") as response:
            assert msgspec.json.decode(await response.read())["servers"] == [{"url": "/tide/gauge"}]
        await server.post_readings([{"sensor": "a/b", "values": {"level": 1}}])
        async with server.http.get("/tide/gauge/api/v1/sensors/a%2Fb") as response:
            assert (await response.json())["name"] == "a/b"


@pytest.mark.parametrize("root_path", ["tide", "/tide/", "/", "/a b", "/a//b", "/a?b"])
def test_settings_refuse_a_prefix_that_is_no_plain_path(root_path: str) -> None:
    with pytest.raises(SettingsError, match=r"^ROOT_PATH is .*; it must begin with a slash and not end with one"):
        Settings(root_path=root_path).check()
