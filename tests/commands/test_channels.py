"""`tidegauge channel`: without a worker, and through one that runs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.settings import Settings
from app.worker import Worker
from tests.commands.test_rules import tidegauge
from tests.conftest import Database
from tests.receivers import WebhookReceiver, answers


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as running:
        yield running


@pytest.fixture
def rules(tmp_path: Path, receiver: WebhookReceiver) -> Path:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "rules.yml").write_text(
        f'version: 1\nrules: []\nchannels:\n  ops: {{type: webhook, url: "{receiver.url}/ops"}}\n'
    )
    return folder


async def test_message_is_sent_from_here_when_no_worker_runs(
    tmp_path: Path, rules: Path, receiver: WebhookReceiver, database: Database
) -> None:
    code, output, errors = await tidegauge(
        tmp_path, "channel", "test", "ops", DATABASE_URL=database.dsn, RULES_DIR=str(rules)
    )
    assert (code, output) == (0, "ops: sent\n"), errors
    (message,) = receiver.accepted
    assert (message.path, message.body["title"], message.body["text"]) == ("/ops", "Test", "The channel ops works.")


async def test_worker_sends_the_message_when_one_runs(
    tmp_path: Path, rules: Path, receiver: WebhookReceiver, database: Database
) -> None:
    async with Worker(Settings(database_url=database.dsn, rules_dir=rules)).running():
        # The command has no rules of its own here.
        command = ("channel", "test", "ops")
        code, output, errors = await tidegauge(tmp_path, *command, DATABASE_URL=database.dsn, RULES_DIR="nowhere")
        assert (code, output) == (0, "ops: sent\n"), errors
        receiver.fail_next(answers(410))
        code, output, _ = await tidegauge(tmp_path, *command, DATABASE_URL=database.dsn, RULES_DIR="nowhere")
    assert (code, output) == (1, "ops: refused, the webhook answered 410\n")
    assert [message.path for message in receiver.accepted] == ["/ops"]


async def test_unknown_channel_is_refused_with_the_name_that_is_meant(
    tmp_path: Path, rules: Path, database: Database
) -> None:
    code, output, errors = await tidegauge(
        tmp_path, "channel", "test", "opps", DATABASE_URL=database.dsn, RULES_DIR=str(rules), COLUMNS="200"
    )
    assert (code, output) == (1, "")
    assert "There is no channel 'opps'; did you mean \"ops\"? (there are ops)" in errors
