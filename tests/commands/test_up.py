"""The greeting of `tidegauge up` about keys, and its task that restarts a dead embedded database."""

import signal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.auth.keys import create_key, revoke_key
from app.commands.processes import up as up_command
from app.commands.processes.development_key import find_development_key, open_keys
from app.commands.processes.up import database_kept_alive
from app.db.embedded.programs import EmbeddedServerError
from app.db.embedded.server import EmbeddedServer
from app.settings import Settings
from tests.conftest import Database, wait_until
from tests.processes import running, tidegauge

CREATE_ME = ["key", "create", "me", *(f"--scope={scope}" for scope in ("read", "ingest", "live", "notify", "admin"))]
CREATE_ME_SHOWN = "tidegauge key create me --scope read --scope ingest --scope live --scope notify --scope admin"


class ServerWithFailingRestart(EmbeddedServer):
    """A dead embedded server, which cannot be restarted at the first try and can at the second."""

    def __init__(self) -> None:
        self.tries = 0

    def restart_if_dead(self) -> bool:
        self.tries += 1
        if self.tries == 1:
            raise EmbeddedServerError("PostgreSQL did not start.")
        return self.tries == 2


async def test_restart_is_tried_again_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up_command, "_WATCH_S", 0.01)
    monkeypatch.setattr(up_command, "_RETRY_S", 0.01)
    server = ServerWithFailingRestart()
    with capture_logs() as logs:
        async with database_kept_alive(server):
            await wait_until(lambda: server.tries >= 3)
    assert [line["event"] for line in logs] == ["database_not_restarted", "database_restarted"]


async def greeting(tmp_path: Path, database: Database, api_key: str = "") -> str:
    """Start `up` on the database, end it, and return what it printed."""
    async with running(tmp_path / "run", "up", DATABASE_URL=database.dsn, API_KEY=api_key, API_KEY_WS="") as server:
        assert await server.end(signal.SIGTERM) == 0
        return server.out


async def test_up_names_variables_and_labels_when_a_variable_is_set(tmp_path: Path, database: Database) -> None:
    settings = Settings(database_url=database.dsn, data_dir=tmp_path / "run" / ".data")
    key = (await open_keys(settings)).development
    await create_key(database.pool, "harbour-1", frozenset({"ingest"}), {})
    out = await greeting(tmp_path, database, api_key="of-environment")
    assert "  keys        API_KEY, development (kept in .data), harbour-1\n" in out
    assert key
    assert key not in out
    assert "of-environment" not in out


async def test_up_says_that_the_development_key_is_not_known_when_another_folder_has_it(
    tmp_path: Path, database: Database
) -> None:
    await open_keys(Settings(database_url=database.dsn, data_dir=tmp_path / "other"))
    out = await greeting(tmp_path, database)
    assert "  keys        development (not in .data)\n\nThe development key is not known here." in out
    assert CREATE_ME_SHOWN in out
    assert "tg_" not in out


async def test_up_runs_without_a_key_when_the_only_one_was_revoked(tmp_path: Path, database: Database) -> None:
    data_dir = tmp_path / "run" / ".data"
    await open_keys(Settings(database_url=database.dsn, data_dir=data_dir))
    await revoke_key(database.pool, "development")
    async with running(tmp_path / "run", "up", DATABASE_URL=database.dsn, API_KEY="", API_KEY_WS="") as server:
        assert "  keys        none, so nobody can use the server. Create one while it runs:" in server.out
        assert CREATE_ME_SHOWN in server.out
        old = find_development_key(data_dir)
        assert old
        assert await server.post([{"sensor": "s", "values": {"m": 1}}], **{"X-API-Key": old}) == 401
        made = tidegauge(tmp_path, *CREATE_ME, "--plain", DATABASE_URL=database.dsn)
        assert made.code == 0, made
        assert await server.post([{"sensor": "s", "values": {"m": 1}}], **{"X-API-Key": made.out.strip()}) == 200
        assert await server.end(signal.SIGTERM) == 0


async def test_up_takes_secrets_from_files_and_gives_them_to_its_processes(tmp_path: Path, database: Database) -> None:
    (tmp_path / "key").write_text("of-a-file\n")
    (tmp_path / "dsn").write_text(f"{database.dsn}\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".env").write_text(f"DATABASE_URL_FILE={tmp_path}/dsn\n")
    async with running(tmp_path / "run", "up", API_KEY="", API_KEY_WS="", API_KEY_FILE=f"{tmp_path}/key") as server:
        assert await server.post([], **{"X-API-Key": "of-a-file"}) == 200
        assert await server.post([], **{"X-API-Key": "other"}) == 401
        assert await server.end(signal.SIGTERM) == 0
    assert "  keys        API_KEY\n" in server.out
    assert "of-a-file" not in server.out + server.err
