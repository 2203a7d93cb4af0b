"""Two API processes on one database: what one of them counts, or was asked by a service, holds for the other."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from app.auth.keys import create_key
from tests.conftest import Database
from tests.processes import ServerProcess, running
from tests.receivers import SlackReceiver, answers

SEND = "/api/v1/notifications/send"


@pytest.fixture
async def processes(
    tmp_path: Path, database: Database, slack: SlackReceiver
) -> AsyncIterator[tuple[ServerProcess, ServerProcess]]:
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(
                running(tmp_path / name, "serve", DATABASE_URL=database.dsn, SLACK_WEBHOOK_PREFIX=slack.prefix)
            )
            for name in ("first", "second")
        ]
        yield first, second


async def send(process: ServerProcess, slack: SlackReceiver, **headers: str) -> tuple[int, str | None]:
    """Send a notification and return the status and the error of the channel, if there is one."""
    body = {"title": "T", "message": "M", "level": "info", "channels": {"slack": {"webhook_url": slack.webhook_url()}}}
    async with process.http.post(SEND, json=body, headers=headers) as response:
        answer = await response.json()
        result = answer["data"]["channels"]["slack"] if response.status == 201 else {}
        return response.status, result.get("error")


async def test_limit_of_a_key_holds_when_it_sends_through_two_processes(
    processes: tuple[ServerProcess, ServerProcess], database: Database, slack: SlackReceiver
) -> None:
    key = await create_key(database.pool, "shop", frozenset({"notify"}), {"notifications_per_minute": 3})
    first, second = processes
    statuses = [(await send(process, slack, **{"X-API-Key": key}))[0] for process in (first, second, first, second)]
    assert statuses == [201, 201, 201, 429]
    assert len(slack.accepted) == 3


async def test_destination_is_not_called_by_a_process_when_it_asked_another_one_to_wait(
    processes: tuple[ServerProcess, ServerProcess], slack: SlackReceiver
) -> None:
    slack.fail_next(answers(429, "rate_limited", Retry_After="30"))
    first, second = processes
    assert await send(first, slack) == (201, "Network error sending to Slack: Slack answered 429: rate_limited")
    status, error = await send(second, slack)
    assert (status, error) == (201, "Network error sending to Slack: Slack has asked to wait, 30 s from now on")
    assert slack.refused == [429]
    assert slack.accepted == []
