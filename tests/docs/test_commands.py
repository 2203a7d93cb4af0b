"""The commands of each document against a real server, as they are written but for addresses and keys."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from app.clock import now_us
from app.db.pool import connect
from app.settings import Settings
from tests.conftest import API_KEY, Database, Server, copied, project_folder, running_server, wait_until
from tests.docs.documents import DOCUMENTS
from tests.docs.shell import run_document, steps
from tests.receivers import SlackReceiver, answers

#: Documents with commands, each with a test below.
TRIED = {
    *(
        "README.md",
        "docs/backup.md",
        "docs/clients.md",
        "docs/gateways.md",
        "docs/grafana.md",
        "docs/live-feed.md",
        "docs/operators.md",
    ),
    "docs/trends.md",
}
REPLACED = {"tg_…": API_KEY}


def test_every_document_with_commands_has_a_test() -> None:
    assert {document for document in DOCUMENTS if steps(document)} == TRIED


async def test_commands_of_readme_work(server: Server, tmp_path: Path) -> None:
    await run_document("README.md", tmp_path, {**REPLACED, "http://127.0.0.1:8000": server.address}, {})


async def test_commands_of_clients_work(server: Server, tmp_path: Path) -> None:
    await run_document("docs/clients.md", tmp_path, {**REPLACED, "http://127.0.0.1:8000": server.address}, {})
    stored: Any = await server.get("/api/v1/sensors")
    assert [item["name"] for item in stored["items"]] == [
        *("API_KEY", "boiler", "cellar", "cellar-1", "cellar-2", "pump-1", "roof", "roof,site=harbour", "tower"),
        "urn:dev:mac:0024befffe804ff1",
    ]


async def test_commands_of_gateways_work(server: Server, database: Database, tmp_path: Path) -> None:
    replaced = {**REPLACED, "http://127.0.0.1:8000": server.address}
    await run_document("docs/gateways.md", tmp_path, replaced, {"DATABASE_URL": database.dsn})


async def test_commands_of_live_feed_work(server: Server, tmp_path: Path) -> None:
    await server.post_readings([{"sensor": "cellar", "values": {"temperature": 12.5}}])
    await run_document("docs/live-feed.md", tmp_path, {**REPLACED, "http://127.0.0.1:8000": server.address}, {})


async def test_commands_of_trends_work(server: Server, tmp_path: Path) -> None:
    await server.post_readings([{"sensor": name, "values": {"temperature": 12.5}} for name in ("cellar", "roof")])
    await run_document("docs/trends.md", tmp_path, {**REPLACED, "http://127.0.0.1:8000": server.address}, {})


async def test_commands_of_grafana_let_the_reader_in(database: Database, tmp_path: Path) -> None:
    # The role is the whole server's: another password would shut other tests out.
    replaced = {"choose-a-password": "reader"}
    await run_document("docs/grafana.md", tmp_path, replaced, {"DATABASE_URL": database.dsn})
    connection = await asyncpg.connect(database.reader_dsn)
    try:
        assert await connection.fetchval("SELECT count(*) FROM sensor") == 0
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("INSERT INTO sensor (name, created_by) VALUES ('a', 'b')")
    finally:
        await connection.close()


@pytest.fixture
async def operated(database: Database, slack: SlackReceiver, tmp_path: Path) -> AsyncIterator[Server]:
    """A server with an alert that fires, a Slack channel, and a message that Slack refused."""
    rules = tmp_path / "rules"
    shutil.copytree(project_folder() / "rules", rules)
    channel = '{type: slack, webhook_url: "${SLACK_WEBHOOK_URL}"}'
    (rules / "channels.yml").write_text(f"version: 1\nchannels:\n  duty-slack: {channel}\n")
    environ = {"SLACK_WEBHOOK_URL": slack.webhook_url(), "SLACK_WEBHOOK_PREFIX": slack.prefix}
    given = {"DATABASE_URL": database.dsn, "API_KEY": API_KEY, "RULES_DIR": str(rules), **environ}
    slack.fail_next(answers(400, "invalid_blocks"))
    async with running_server(Settings.from_environment(given, tmp_path / "no.env")) as server:
        now_ms = now_us() // 1_000
        oven = [
            {"sensor": "oven", "time": now_ms - ago_ms, "values": {"temperature": 45}} for ago_ms in (90_000, 10_000)
        ]
        await server.post_readings(oven)
        async with asyncio.timeout(20):
            while not await database.pool.fetchval("SELECT count(*) FROM notification WHERE state = 'dead'"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield server


async def test_commands_of_operators_work(
    operated: Server, database: Database, slack: SlackReceiver, tmp_path: Path
) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    secret = {"https://hooks.slack.com/services/T0/B0/secret": slack.webhook_url("broker")}
    # The message that is sent again has only what is still true, so its alert must not be closed before it is sent.
    sent = """curl -s "$TIDEGAUGE/api/v1/notifications/outbox?state=sent" -H "X-API-Key: $API_KEY" | grep '"id":2,'"""
    ack = 'curl -X POST "$TIDEGAUGE/api/v1/alerts/1/ack"'
    waiting = {ack: f"until {sent} >/dev/null; do sleep 0.1; done\n{ack}"}
    replaced = {**REPLACED, **secret, **waiting, "http://127.0.0.1:8000": operated.address}
    await run_document("docs/operators.md", folder, replaced, {"DATABASE_URL": database.dsn})
    # The test message, what was refused at first, that its alert was closed, and the other program's notification.
    await wait_until(lambda: len(slack.accepted) == 4)
    assert any("Delayed" in text for text in slack.texts)
    assert any("sensor replaced" in text for text in slack.texts), slack.texts


async def test_commands_of_backup_bring_everything_to_other_databases(
    operated: Server, database: Database, server_dsn: str, template: str, empty_dsn: str, tmp_path: Path
) -> None:
    folder = tmp_path / "checkout"
    folder.mkdir()
    async with copied(server_dsn, template) as moved_dsn:
        environ = {"DATABASE_URL": database.dsn, "MOVED_URL": moved_dsn, "RESTORED_URL": empty_dsn}
        await run_document("docs/backup.md", folder, REPLACED, environ)
        for dsn in (moved_dsn, empty_dsn):
            connection = await connect(dsn)
            try:
                assert await connection.fetchval("SELECT count(*) FROM reading") == 2
                assert await connection.fetchval("SELECT sum(n) FROM reading_1d") == 2
            finally:
                await connection.close()
