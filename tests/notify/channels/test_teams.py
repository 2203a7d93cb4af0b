"""Teams, by a local server that refuses what the real one refuses."""

import aiohttp

from app.notify.channels import teams
from app.notify.transport import Endpoints
from tests.notify.channel_deliveries import MESSAGE, send
from tests.receivers import TeamsReceiver


async def test_teams_is_sent_an_adaptive_card(session: aiohttp.ClientSession) -> None:
    async with TeamsReceiver() as server:
        await send(session, teams, teams.Config(webhook_url=f"{server.url}/workflows/1"), MESSAGE)
        (text,) = server.texts
    assert text == (
        "🚨 **1 critical: cold**\n🚨 **freezer\\_3** temperature -8.5 °C, above -10 °C\n"
        "@everyone \\[door\\]\\(open\\)?\n[Page](https://t.example/#/alert/7)"
    )


def test_teams_refuses_the_address_of_a_retired_connector() -> None:
    config = teams.Config(webhook_url="https://example.webhook.office.com/webhookb2/1")
    assert (teams.check(config, Endpoints()) or "").startswith("webhook_url is that of a retired Office 365 connector")
