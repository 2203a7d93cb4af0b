"""The API works as a role for rows, whoever the address logs in as; an owner that is no superuser can migrate."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from structlog.testing import capture_logs

from app.db.migrations import migrate
from app.db.pool import Connection, open_pool
from app.db.rights import list_open_rights
from app.settings import Settings
from app.worker import Worker
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_api, running_server

#: Notes as whom rows of `dirty` are stored.
NOTE_USERS = """
CREATE TABLE noted (name text);
GRANT INSERT ON noted TO PUBLIC;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN INSERT INTO noted VALUES (current_user); RETURN NEW; END $$;
CREATE TRIGGER note BEFORE INSERT ON dirty FOR EACH ROW EXECUTE FUNCTION note();
"""


async def test_api_works_as_the_role_for_rows_when_the_address_is_the_owners(database: Database) -> None:
    await database.pool.execute(NOTE_USERS)
    with capture_logs() as logs:
        async with running_server(_settings(database.dsn)) as server:
            await _use(server)
            assert await server.services.pool.fetchval("SELECT current_user") == "tidegauge_app"
            assert await server.services.read_pool.fetchval("SELECT current_user") == "tidegauge_app"
            assert await server.worker.pool.fetchval("SELECT current_user = session_user")
    assert {row["name"] for row in await database.pool.fetch("SELECT name FROM noted")} == {"tidegauge_app"}
    assert "role_not_assumed" not in {entry["event"] for entry in logs}


async def test_api_works_when_the_address_logs_in_as_a_member_of_the_role(database: Database) -> None:
    async with _login(database, "IN ROLE tidegauge_app") as (_, dsn):
        with capture_logs() as logs:
            async with running_api(_settings(dsn), Worker(_settings(database.dsn))) as server:
                await _use(server)
        assert "role_not_assumed" not in {entry["event"] for entry in logs}


async def test_api_works_with_a_warning_when_its_user_may_not_become_the_role(database: Database) -> None:
    async with _login(database, "") as (name, dsn):
        await database.pool.execute(
            f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name};"
            f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {name};"
            f"GRANT ALL ON ALL FUNCTIONS IN SCHEMA public TO {name}"
        )
        with capture_logs() as logs:
            async with running_api(_settings(dsn), Worker(_settings(database.dsn))) as server:
                await _use(server)
                assert await server.services.pool.fetchval("SELECT current_user") == name
        (warning,) = (entry for entry in logs if entry["event"] == "role_not_assumed")
        assert warning["reason"] == (
            f"{name} cannot become the role tidegauge_app, so the API works with all rights of {name}: "
            f"run `tidegauge migrate` as a role with CREATEROLE, or GRANT tidegauge_app TO {name}"
        )
        await database.pool.execute(f"DROP OWNED BY {name}")


async def test_owner_who_is_no_superuser_migrates_and_serves(server_dsn: str) -> None:
    async with _plain_owner(server_dsn) as dsn:
        assert (await migrate(dsn))[-1] == "aggregates"
        assert await migrate(dsn) == []
        async with running_server(_settings(dsn)) as server:
            await _use(server)
            assert await server.services.pool.fetchval("SELECT current_user") == "tidegauge_app"
            await server.tick()
            for job in server.worker._jobs():
                await job.run()
        pool = await open_pool(dsn, min_size=1, max_size=1)
        try:
            # What belongs to the server's superuser is left to him.
            texts = await list_open_rights(pool)
        finally:
            await pool.close()
        assert [
            text for text in texts if not text.startswith(("everyone may fill the disk, or", "the reader may"))
        ] == []


def _settings(dsn: str) -> Settings:
    return Settings(database_url=dsn, api_key=API_KEY, api_key_ws=API_KEY_WS)


async def _use(server: Server) -> None:
    """Let the API do what it does with the database: upload, many and late, change, list, delete."""
    old = [
        {"sensor": f"s{n}", "time": f"2026-0{n % 9 + 1}-01T08:00:00Z", "values": {"m": n}, "gateway": "g"}
        for n in range(150)
    ]
    for body in ([{"sensor": "s", "values": {"m": 1, "n": 2}}], old):
        response = await server.post_readings(body, headers={"Idempotency-Key": secrets.token_hex(8)})
        assert response.status == 200, await response.text()
    changes = {"name": "t", "display_name": "T", "units": {"m": "V"}, "tags": {"a": "b"}}
    async with server.http.put("/api/v1/sensors/s", json=changes) as response:
        assert response.status == 200, await response.text()
    async with server.http.put("/api/v1/sensors/t", json={"retired": True}) as response:
        assert response.status == 200, await response.text()
    for path in ("sensors", "readings", "alerts", "gateways", "silences", "rules", "channels", "limits?sensor=t"):
        await server.get(f"/api/v1/{path}")
    await server.get("/api/v1/trends", sensor="t", metric="m")
    await server.get("/health/ready")
    async with server.http.delete("/api/v1/sensors/t") as response:
        assert response.status in (200, 202, 204), await response.text()


@asynccontextmanager
async def _login(database: Database, options: str) -> AsyncIterator[tuple[str, str]]:
    """Make a role that logs in until the block ends; yield its name and its address of the database."""
    name, password = f"tidegauge_test_{secrets.token_hex(4)}", secrets.token_hex(8)
    await database.pool.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' {options}")
    try:
        yield name, _with_user(database.dsn, name, password)
    finally:
        await database.pool.execute(f"DROP ROLE {name}")


@asynccontextmanager
async def _plain_owner(server_dsn: str) -> AsyncIterator[str]:
    """Make a role with CREATEROLE and a database of it, as managed services do; both go when the block ends."""
    name, password = f"tidegauge_test_{secrets.token_hex(4)}", secrets.token_hex(8)
    superuser = await asyncpg.connect(server_dsn)
    try:
        await superuser.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{password}'")
        await _give_roles(superuser, name)
        await superuser.execute(f"CREATE DATABASE {name} OWNER {name}")
        try:
            yield _with_user(urlunsplit(urlsplit(server_dsn)._replace(path=f"/{name}")), name, password)
        finally:
            await superuser.execute(f"DROP DATABASE {name} WITH (FORCE)")
            await superuser.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    finally:
        await superuser.close()


async def _give_roles(superuser: Connection, name: str) -> None:
    """Let a role manage the roles of the server that another test has made; it would else have made them itself."""
    for role in ("tidegauge_reader", "tidegauge_app"):
        if await superuser.fetchval("SELECT to_regrole($1) IS NOT NULL", role):
            await superuser.execute(f"GRANT {role} TO {name} WITH ADMIN OPTION")


def _with_user(dsn: str, name: str, password: str) -> str:
    address = urlsplit(dsn)
    host = address.netloc.rpartition("@")[2]
    return urlunsplit(address._replace(netloc=f"{name}:{password}@{host}"))
