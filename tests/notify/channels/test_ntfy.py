"""ntfy, by a local server that refuses what the real one refuses."""

import aiohttp

from app.notify.channels import ntfy
from app.notify.transport import PermanentError
from tests.notify.channel_deliveries import MESSAGE, failure, send
from tests.receivers import NtfyReceiver


async def test_ntfy_is_sent_title_text_priority_and_link(session: aiohttp.ClientSession) -> None:
    async with NtfyReceiver() as server:
        await send(session, ntfy, ntfy.Config(topic="alerts", url=server.url), MESSAGE)
        (accepted,) = server.accepted
    assert accepted.body == {
        "topic": "alerts",
        "title": "1 critical: cold",
        "message": (
            "🚨 freezer_3 temperature -8.5 °C, above -10 °C\n@everyone [door](open)?\nPage: https://t.example/#/alert/7"
        ),
        "priority": 5,
        "tags": ["🚨"],
        "click": "https://t.example/#/alert/7",
    }


async def test_ntfy_channel_is_broken_when_the_topic_needs_another_token(session: aiohttp.ClientSession) -> None:
    async with NtfyReceiver() as server:
        server.protected["alerts"] = "tk_right"
        error = await failure(session, ntfy, ntfy.Config(topic="alerts", url=server.url, token="tk_wrong"))
        assert isinstance(error, PermanentError)
        assert (error.channel_broken, error.reason) == (True, "ntfy answered 403")
        await send(session, ntfy, ntfy.Config(topic="alerts", url=server.url, token="tk_right"), MESSAGE)
        assert len(server.accepted) == 1
