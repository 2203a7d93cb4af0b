"""The task of `tidegauge up` that restarts a dead embedded database."""

import pytest
from structlog.testing import capture_logs

from app.commands import up as up_command
from app.commands.up import database_kept_alive
from app.db.embedded.programs import EmbeddedServerError
from app.db.embedded.server import EmbeddedServer
from tests.conftest import wait_until


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
