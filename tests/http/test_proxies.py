"""Addresses of clients behind proxies."""

from typing import Any

import pytest
from litestar.types import Receive, Scope, Send

from app.errors import SettingsError
from app.http.proxies import TrustedProxies, client_address
from app.settings import Settings
from tests.conftest import API_KEY, Database, running_server

PROXIES = "10.0.0.0/8, 192.168.1.5,fd00::/8"


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("192.168.1.5", ["198.51.100.1"], "198.51.100.1"),
        ("192.168.1.6", ["198.51.100.1"], "192.168.1.6"),
        # The client made up what stands before.
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("fd00::1", ["2001:DB8:0::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, <script>"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("unix", ["198.51.100.1"], "unix"),
    ],
)
async def test_address_is_the_last_that_no_trusted_proxy_has(peer: str, forwarded: list[str], expected: str) -> None:
    settings = Settings(trusted_proxies=PROXIES)
    seen: list[str] = []

    async def application(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(client_address(scope))

    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope: Any = {"type": "http", "client": (peer, 4711), "headers": headers}
    await TrustedProxies(application, settings.parse_proxies())(scope, None, None)  # type: ignore[arg-type]
    assert seen == [expected]


def test_address_is_empty_when_the_server_does_not_know_it() -> None:
    scope: Any = {"type": "http", "client": None, "headers": []}
    assert client_address(scope) == ""


@pytest.mark.parametrize("wrong", ["proxy.example", "10.0.0.1/8", "*", "10.0.0.1;10.0.0.2"])
def test_start_is_refused_when_trusted_proxies_are_no_addresses(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"TRUSTED_PROXIES is .*; it must be addresses or networks separated"):
        Settings(trusted_proxies=wrong).check()


@pytest.mark.parametrize(("trusted", "expected"), [("", "127.0.0.1"), ("127.0.0.1", "198.51.100.1")])
async def test_record_of_the_replaced_server_has_the_clients_address_only_when_its_proxy_is_trusted(
    database: Database, trusted: str, expected: str
) -> None:
    settings = Settings(database_url=database.dsn, api_key=API_KEY, trusted_proxies=trusted)
    body = {"sensor_id": "s", "temperature": 1.0, "humidity": 1.0, "pressure": 1.0}
    async with (
        running_server(settings) as server,
        server.http.post(
            "/api/temperature_reading", json=body, headers={"X-Forwarded-For": "198.51.100.1"}
        ) as response,
    ):
        assert response.status == 201, await response.text()
    assert await database.pool.fetchval("SELECT client_ip FROM legacy_reading") == expected
