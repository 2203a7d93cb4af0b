"""/ws/live over real sockets: keys, their scopes and their limits."""

import pytest

from app.auth import key_ring
from app.auth.keys import create_key, revoke_key
from app.live import session
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, wait_until
from tests.live.clients import live, metric, post, serving


async def test_live_accepts_a_client_when_the_key_is_in_a_header(server: Server) -> None:
    async with live(server) as client:
        assert (await client.snapshot())["readings"] == []


async def test_live_accepts_a_client_when_the_key_is_a_bearer_token(server: Server) -> None:
    async with live(server, key=None, additional_headers={"Authorization": f"Bearer {API_KEY_WS}"}) as client:
        assert (await client.snapshot())["readings"] == []


async def test_live_accepts_a_client_when_the_first_message_has_the_key(server: Server) -> None:
    async with live(server, key=None) as client:
        await client.send(type="auth", key=API_KEY_WS)
        assert (await client.snapshot())["readings"] == []


async def test_live_closes_with_4401_when_the_first_message_has_a_wrong_key(server: Server) -> None:
    for key in ("wrong", "", "ключ", "k" * 4_000):
        async with live(server, key=None) as client:
            await client.send(type="auth", key=key)
            assert (await client.closed())[0] == 4401


async def test_live_closes_with_4401_when_the_header_has_a_wrong_key(server: Server) -> None:
    async with live(server, key="wrong") as client:
        assert await client.closed() == (4401, "This API key is unknown or was revoked")


async def test_live_closes_with_4401_when_the_first_message_is_not_auth(server: Server) -> None:
    async with live(server, key=None) as client:
        await client.subscribe()
        assert await client.closed() == (4401, 'first send {"type":"auth","key":…}')


async def test_live_closes_with_4401_when_no_key_comes_in_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "AUTH_TIMEOUT_S", 0.05)
    async with live(server, key=None) as client:
        code, _ = await client.closed()
    assert code == 4401


async def test_live_closes_with_4403_when_the_key_lacks_the_scope(server: Server) -> None:
    async with live(server, key=API_KEY) as client:
        code, reason = await client.closed()
    assert code == 4403
    assert reason is not None
    assert "needs live" in reason


async def test_live_closes_with_4429_when_the_key_holds_too_many_connections(database: Database) -> None:
    async with serving(database.dsn, max_ws_connections_per_key=2) as server, live(server) as first:
        async with live(server) as second:
            await first.snapshot()
            await second.snapshot()
            async with live(server) as third:
                assert await third.closed() == (4429, "Max connections (2) for this API Key reached.")
        await wait_until(lambda: metric(server, "tidegauge_websocket_clients", path="/ws/live") == 1)
        async with live(server) as fourth:
            await fourth.snapshot()


async def test_live_closes_with_4429_when_the_keys_own_limit_is_exceeded(server: Server) -> None:
    key = await create_key(server.services.pool, "screen", frozenset({"live"}), {"ws_connections": 1})
    async with live(server, key=key) as first:
        await first.snapshot()
        async with live(server, key=key) as second:
            assert await second.closed() == (4429, "Max connections (1) for this API Key reached.")


async def test_live_closes_with_4401_when_the_key_is_revoked(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "REFRESH_S", 0.05)
    key = await create_key(database.pool, "screen", frozenset({"live"}), {})
    async with serving(database.dsn) as server, live(server, key=key) as client, live(server) as other:
        await client.snapshot()
        await other.snapshot()
        await revoke_key(database.pool, "screen")
        assert await client.closed() == (4401, "this API key was revoked")
        await post(server, "s", 1)
        assert [value[3] for value in await other.values(1)] == [1]


@pytest.mark.parametrize(
    "change", ["scopes = '{live,read}'", """limits = '{"ws_connections": 9}'""", "label = 'other'"]
)
async def test_live_closes_with_4401_when_the_key_changes_while_it_is_connected(
    change: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "REFRESH_S", 0.05)
    monkeypatch.setattr(session, "REFRESH_S", 0.05, raising=False)
    key = await create_key(database.pool, "screen", frozenset({"live"}), {})
    async with serving(database.dsn) as server, live(server, key=key) as client:
        await client.snapshot()
        await database.pool.execute(f"UPDATE api_key SET {change}")
        assert await client.closed() == (4401, "this API key was revoked")
        async with live(server, key=key) as again:
            await again.snapshot()


async def test_live_closes_with_4403_when_a_key_lost_its_scope_and_comes_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "REFRESH_S", 0.05)
    monkeypatch.setattr(session, "REFRESH_S", 0.05, raising=False)
    key = await create_key(database.pool, "screen", frozenset({"live"}), {})
    async with serving(database.dsn) as server, live(server, key=key) as client:
        await client.snapshot()
        await database.pool.execute("UPDATE api_key SET scopes = '{read}'")
        assert await client.closed() == (4401, "this API key was revoked")
        async with live(server, key=key) as again:
            assert (await again.closed())[0] == 4403
