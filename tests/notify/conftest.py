"""Real receivers on real sockets, and the session that reaches them."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from app.notify.transport import Endpoints, open_session
from tests.receivers import SlackReceiver, TelegramReceiver, WebhookReceiver


@pytest.fixture
async def slack() -> AsyncIterator[SlackReceiver]:
    async with SlackReceiver(every_s=None) as receiver:
        yield receiver


@pytest.fixture
async def telegram() -> AsyncIterator[TelegramReceiver]:
    async with TelegramReceiver(every_s=None) as receiver:
        yield receiver


@pytest.fixture
async def webhook() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as receiver:
        yield receiver


@pytest.fixture
def endpoints(slack: SlackReceiver, telegram: TelegramReceiver) -> Endpoints:
    return Endpoints(slack_webhook_prefix=slack.prefix, telegram_api_base=telegram.url)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_session() as opened:
        yield opened


@pytest.fixture
async def impatient_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session for what is meant to hang."""
    async with open_session(total_timeout_s=0.1) as opened:
        yield opened
