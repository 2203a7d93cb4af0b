"""Discord, by a local server that refuses what the real one refuses."""

import aiohttp

from app.notify.channels import discord
from app.notify.transport import PermanentError
from tests.notify.channel_deliveries import MESSAGE, failure, send
from tests.receivers import DiscordReceiver, answers


async def test_discord_mentions_nobody_and_escapes_markdown(session: aiohttp.ClientSession) -> None:
    async with DiscordReceiver() as server:
        await send(session, discord, discord.Config(webhook_url=server.webhook_url), MESSAGE)
        (accepted,) = server.accepted
    assert accepted.body == {
        "content": "🚨 **1 critical: cold**",
        "embeds": [
            {
                "color": 0x8B0000,
                "description": (
                    "🚨 **freezer\\_3** temperature \\-8.5 °C, above \\-10 °C\n@everyone \\[door\\]\\(open\\)?\n"
                    "[Page](https://t.example/#/alert/7)"
                ),
            }
        ],
        "allowed_mentions": {"parse": []},
    }


async def test_discord_waits_as_long_as_it_is_told_and_is_broken_when_the_webhook_is_gone(
    session: aiohttp.ClientSession,
) -> None:
    async with DiscordReceiver() as server:
        config = discord.Config(webhook_url=server.webhook_url)
        server.fail_next(answers(429, '{"message":"You are being rate limited.","retry_after":1.25,"global":false}'))
        assert (await failure(session, discord, config)).retry_after_s == 1.25
        server.deleted.add("/api/webhooks/123/token-abc")
        error = await failure(session, discord, config)
    assert isinstance(error, PermanentError)
    assert (error.channel_broken, error.reason) == (True, "Discord answered 404: error 10015")
