"""/ws/live over real sockets: the ends of connections."""

from contextlib import AsyncExitStack

from tests.conftest import Database, Server, wait_until
from tests.live.clients import live, metric, post, sensor_updates, serving


async def test_live_closes_with_1012_when_the_server_stops(database: Database) -> None:
    async with AsyncExitStack() as stack:
        async with serving(database.dsn) as server:
            clients = [await stack.enter_async_context(live(server)) for _ in range(3)]
            await clients[0].snapshot()
            await clients[1].snapshot(mode="latest")  # the third has not subscribed
        assert [(await client.closed())[0] for client in clients] == [1012, 1012, 1012]


async def test_live_removes_a_client_when_its_connection_breaks(server: Server) -> None:
    async with live(server) as client:
        await client.snapshot()
        assert metric(server, "tidegauge_websocket_clients", path="/ws/live") == 1
        client.connection.transport.abort()
        await wait_until(lambda: metric(server, "tidegauge_websocket_clients", path="/ws/live") == 0)


async def test_hub_keeps_nothing_of_clients_when_they_have_left_or_subscribed_again(server: Server) -> None:
    hub = server.services.hub
    async with AsyncExitStack() as stack:
        for mode in ("all", "latest"):
            client = await stack.enter_async_context(live(server))
            await client.snapshot(mode=mode, sensors=["a*"], tags={"site": "x"}, states=True)
            await client.snapshot(mode=mode, sensors=["b*"], alerts=True)
            await client.snapshot(mode=mode, sensors=["c*"], tags={"site": "x"})
        await stack.enter_async_context(sensor_updates(server))
        await wait_until(lambda: len(hub._subscribers) == 3)
        assert len(hub.labels._filters) == 2
        assert not hub.wants_states
        await post(server, "cellar", 1)
    await wait_until(lambda: not hub._subscribers)
    assert hub.labels._filters == set()
    assert hub.backlog.bytes == 0


async def test_live_closes_with_1013_when_the_database_is_away_at_the_start(server: Server) -> None:
    async with live(server) as client:
        server.services.feed_pool.terminate()
        await client.subscribe()
        assert await client.closed() == (1013, "the database is away")


async def test_live_closes_with_1013_when_the_database_is_away_and_the_key_is_not_known_yet(server: Server) -> None:
    server.services.key_pool.terminate()
    async with live(server, key="new") as client:
        assert await client.closed() == (1013, "the database is away")
