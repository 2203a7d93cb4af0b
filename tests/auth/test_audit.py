"""The audit lines of the log: refused keys, changed keys, and what operators do."""

import asyncio
import signal
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import websockets
from structlog.testing import capture_logs

from app.auth import audit, key_ring
from app.auth.audit import REFUSALS_KEPT, KeyRefusals
from app.auth.key_ring import KeyRing
from app.auth.keys import create_key, revoke_key
from app.http.proxies import client_address
from tests import processes
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, wait_until


def lines(logs: Any, *events: str) -> list[dict[str, Any]]:
    """Return the lines of these events without their level."""
    found = [dict(line) for line in logs if line["event"] in events]
    return [{name: value for name, value in line.items() if name != "log_level"} for line in found]


def refusal(reason: str, client: str = "10.0.0.1", key: str | None = None, count: int = 1) -> dict[str, Any]:
    return {"event": "key_refused", "reason": reason, "key": key, "client": client, "count": count}


# The rate of lines


def test_first_refusal_is_logged_at_once_and_the_others_as_a_number() -> None:
    refusals = KeyRefusals()
    with capture_logs() as logs:
        for _ in range(1_000):
            refusals.count("10.0.0.1", "unknown")
        assert lines(logs, "key_refused") == [refusal("unknown")]
        refusals.report()
        refusals.report()
    assert lines(logs, "key_refused") == [refusal("unknown"), refusal("unknown", count=999)]
    assert [line["log_level"] for line in logs] == ["warning", "warning"]


def test_refusals_that_go_on_have_one_line_in_each_period() -> None:
    refusals = KeyRefusals()
    with capture_logs() as logs:
        for _ in range(3):
            for _ in range(5):
                refusals.count("10.0.0.1", "unknown")
            refusals.report()
    assert [line["count"] for line in logs] == [1, 4, 5, 5]


def test_refusal_is_logged_at_once_again_when_there_was_none_for_a_period() -> None:
    refusals = KeyRefusals()
    with capture_logs() as logs:
        refusals.count("10.0.0.1", "unknown")
        refusals.report()
        refusals.count("10.0.0.1", "unknown")
    assert lines(logs, "key_refused") == [refusal("unknown"), refusal("unknown")]


def test_refusals_are_told_apart_by_address_reason_and_key() -> None:
    refusals = KeyRefusals()
    told = [
        ("a", "unknown", None),
        ("b", "unknown", None),
        ("a", "revoked", "x"),
        ("a", "scope", "x"),
        ("a", "scope", "y"),
    ]
    with capture_logs() as logs:
        for _ in range(2):
            for client, reason, key in told:
                refusals.count(client, reason, key)  # type: ignore[arg-type]
    assert lines(logs, "key_refused") == [refusal(reason, client, key) for client, reason, key in told]


def test_refusals_of_very_many_addresses_are_counted_together() -> None:
    refusals = KeyRefusals()
    with capture_logs() as logs:
        for number in range(REFUSALS_KEPT + 500):
            refusals.count(f"10.0.{number // 250}.{number % 250}", "unknown")
        assert len(refusals._since_line) == REFUSALS_KEPT + 1
        refusals.count("10.0.0.1", "unknown")
        refusals.count("10.1.1.1", "revoked", "roof")
        assert len(refusals._since_line) == REFUSALS_KEPT + 2
        assert len(logs) == REFUSALS_KEPT + 2
        assert lines(logs, "key_refused")[-2:] == [refusal("unknown", "others"), refusal("revoked", "others")]
        refusals.report()
        assert lines(logs, "key_refused")[-2:] == [
            refusal("unknown", "10.0.0.1"),
            refusal("unknown", "others", count=499),
        ]
    refusals.report()
    assert refusals._since_line == {}


async def test_refusals_are_reported_every_minute_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert audit.REPORT_EVERY_S == 60
    monkeypatch.setattr(audit, "REPORT_EVERY_S", 0.01)
    refusals = KeyRefusals()
    with capture_logs() as logs:
        refusals.count("a", "unknown")
        refusals.count("a", "unknown")
        reporting = asyncio.create_task(refusals.report_forever())
        await wait_until(lambda: len(logs) == 2)
        monkeypatch.setattr(audit, "REPORT_EVERY_S", 3_600)
        await asyncio.sleep(0.05)  # the pause that had begun is over
        refusals.count("b", "unknown")
        refusals.count("b", "unknown")
        reporting.cancel()
        with suppress(asyncio.CancelledError):
            await reporting
    assert [(line["client"], line["count"]) for line in logs] == [("a", 1), ("a", 1), ("b", 1), ("b", 1)]


@pytest.mark.parametrize(
    ("client", "address"),
    [(("10.0.0.1", 5_000), "10.0.0.1"), (["::1", 1], "::1"), (None, ""), (("x" * 70_000, 0), "x" * 60)],
    ids=["v4", "v6", "none", "endless"],
)
def test_address_is_that_of_the_connection(client: Any, address: str) -> None:
    scope: Any = {"client": client}
    assert client_address(scope) == address


# Over the network


async def test_refused_key_is_logged_with_address_reason_and_label_on_every_way_in(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "REFRESH_S", 0.01)
    old = await create_key(database.pool, "old", frozenset({"read"}), {})
    await revoke_key(database.pool, "old")
    narrow = await create_key(database.pool, "narrow", frozenset({"ingest"}), {})
    await server.services.ring.refresh()
    for way in (get_sensors, send_notification, follow, follow_as_before):
        server.services.ring.refusals = KeyRefusals()
        reasons: list[str] = []
        server.services.ring.refusals.on_refused = reasons.append
        with capture_logs() as logs:
            for _ in range(3):
                for key in ("wrong-key", old, narrow):
                    await way(server, key)
                await way(server, "")
        said = lines(logs, "key_refused")
        assert [(line["client"], line["reason"], line["key"], line["count"]) for line in said] == [
            ("127.0.0.1", "unknown", None, 1),
            ("127.0.0.1", "revoked", "old", 1),
            ("127.0.0.1", "scope", "narrow", 1),
        ], way
        assert reasons == ["unknown", "revoked", "scope", "missing"] * 3, way
        assert all(secret not in str(logs) for secret in ("wrong-key", old, narrow))


async def get_sensors(server: Server, key: str) -> None:
    async with server.http.get("/api/v1/sensors", headers={"X-API-Key": key}) as response:
        assert response.status in (401, 403)


async def send_notification(server: Server, key: str) -> None:
    async with server.http.post("/api/v1/notifications/send", data=b"{}", headers={"X-API-Key": key}) as response:
        assert response.status in (401, 403)


async def follow(server: Server, key: str) -> None:
    async with websockets.connect(f"{server.address.replace('http', 'ws')}/ws/live") as socket:
        await socket.send(msgspec.json.encode({"type": "auth", "key": key}).decode())
        await socket.wait_closed()


async def follow_as_before(server: Server, key: str) -> None:
    async with websockets.connect(f"{server.address.replace('http', 'ws')}/ws/sensor_updates?api-key={key}") as socket:
        await socket.wait_closed()


async def test_valid_key_leaves_no_line(server: Server) -> None:
    with capture_logs() as logs:
        for path in ("/api/v1/sensors", "/api/v1/key"):
            for key in (API_KEY, API_KEY_WS):
                async with server.http.get(path, headers={"X-API-Key": key}) as response:
                    assert response.status == 200
    assert lines(logs, "key_refused") == []


async def test_refused_keys_are_in_the_log_of_a_real_server(database: Database, tmp_path: Path) -> None:
    async with processes.running(tmp_path, "serve", DATABASE_URL=database.dsn) as server:
        for _ in range(5):
            assert await server.post([], **{"X-API-Key": "wrong-key"}) == 401
        assert await server.end(signal.SIGTERM) == 0
    said = [line for line in server.log if line["event"] == "key_refused"]
    assert [(line["client"], line["reason"], line["count"]) for line in said] == [
        ("127.0.0.1", "unknown", 1),
        ("127.0.0.1", "unknown", 4),
    ]
    assert "wrong-key" not in server.err


# Keys that change


async def test_changed_keys_are_logged_when_the_ring_refreshes(database: Database) -> None:
    for label in ("stays", "goes", "dropped", "widened", "limited"):
        await create_key(database.pool, label, frozenset({"read"}), {})
    ring = KeyRing({})
    with capture_logs() as logs:
        await ring.open(database.pool)
        await ring.refresh()
    assert logs == []
    new = await create_key(database.pool, "new", frozenset({"read"}), {"sensors": 0})
    await ring.authenticate(new)  # found before the refresh
    await database.pool.execute("UPDATE api_key SET revoked_at = now() WHERE label = 'goes'")
    await database.pool.execute("DELETE FROM api_key WHERE label = 'dropped'")
    await database.pool.execute("UPDATE api_key SET scopes = '{read,admin}' WHERE label = 'widened'")
    await database.pool.execute("""UPDATE api_key SET limits = '{"sensors": 3}' WHERE label = 'limited'""")
    with capture_logs() as logs:
        await ring.refresh()
        await ring.refresh()
    said = lines(logs, "key_created", "key_changed", "key_revoked")
    assert sorted(said, key=lambda line: line["key"]) == [
        {"event": "key_revoked", "key": "dropped"},
        {"event": "key_revoked", "key": "goes"},
        {"event": "key_changed", "key": "limited", "scopes": ["read"], "limits": {"sensors": 3}},
        {"event": "key_created", "key": "new", "scopes": ["read"], "limits": {"sensors": 0}},
        {"event": "key_changed", "key": "widened", "scopes": ["admin", "read"], "limits": {}},
    ]


async def test_scopes_of_a_key_change_when_the_ring_refreshes(database: Database) -> None:
    key = await create_key(database.pool, "roof", frozenset({"read"}), {})
    ring = KeyRing({})
    await ring.open(database.pool)
    before = await ring.authenticate(key)
    await database.pool.execute("UPDATE api_key SET scopes = '{live}'")
    await ring.refresh()
    assert not ring.is_live(before)
    assert (await ring.authenticate(key)).scopes == {"live"}


# What operators do


async def test_what_operators_do_is_logged_with_their_key_and_address(server: Server) -> None:
    key = await create_key(server.services.pool, "ana", frozenset({"admin"}), {})
    headers = {"X-API-Key": key}
    await server.post_readings([{"sensor": "oven", "values": {"t": 1}}])
    to = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    silence = {"matchers": {"sensor": "cellar"}, "to": to.isoformat(), "author": "Ana"}
    with capture_logs() as logs:
        for method, path, body in (
            ("POST", "/api/v1/silences", silence),
            ("DELETE", "/api/v1/silences/1", None),
            ("DELETE", "/api/v1/silences/1", None),  # over by now
            ("PUT", "/api/v1/sensors/oven", {"name": "oven-1"}),
            ("PUT", "/api/v1/sensors/oven-1", {"retired": True}),
            ("DELETE", "/api/v1/sensors/oven-1", None),
        ):
            async with server.http.request(method, path, json=body, headers=headers) as response:
                await response.read()
    who = {"key": "ana", "client": "127.0.0.1"}
    assert lines(logs, "silence_created", "silence_ended", "sensor_changed", "sensor_deleted") == [
        {"event": "silence_created", "id": 1, "matchers": {"sensor": "cellar"}, "to": to, "author": "Ana", **who},
        {"event": "silence_ended", "id": 1, **who},
        {"event": "sensor_changed", "sensor": "oven", "name": "oven-1", "fields": ["name"], **who},
        {"event": "sensor_changed", "sensor": "oven-1", "name": "oven-1", "fields": ["retired"], **who},
        {"event": "sensor_deleted", "sensor": "oven-1", **who},
    ]
