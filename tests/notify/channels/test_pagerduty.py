"""PagerDuty, by a local server that refuses what the real one refuses."""

import aiohttp

from app.notify.channels import pagerduty
from app.notify.message import Message
from app.notify.transport import PermanentError, TransientError
from tests.notify.channel_deliveries import FREEZER, MESSAGE, failure, send
from tests.receivers import PagerDutyReceiver, answers

KEY = "0123456789abcdef0123456789abcdef"


async def test_pagerduty_opens_one_incident_for_a_group_and_resolves_it_when_nothing_is_left(
    session: aiohttp.ClientSession,
) -> None:
    async with PagerDutyReceiver() as server:
        config = pagerduty.Config(routing_key=KEY, url=f"{server.url}/v2/enqueue")
        await send(session, pagerduty, config, MESSAGE)
        await send(session, pagerduty, config, Message(title="2 critical: cold", entries=(FREEZER,), group_key="cold"))
        assert list(server.incidents.values()) == ["2 critical: cold"]
        await send(session, pagerduty, config, Message(title="2 resolved: cold", group_key="cold", is_end=True))
        assert server.incidents == {}
        first = server.accepted[0].body
    assert (first["payload"]["severity"], first["payload"]["source"], first["client_url"]) == (
        "critical",
        "freezer_3",
        "https://t.example/#/alert/7",
    )


async def test_pagerduty_refusal_of_an_event_breaks_no_channel(session: aiohttp.ClientSession) -> None:
    async with PagerDutyReceiver() as server:
        config = pagerduty.Config(routing_key=KEY, url=f"{server.url}/v2/enqueue")
        server.fail_next(answers(429, Retry_After="7"))
        error = await failure(session, pagerduty, config)
        assert (type(error), error.retry_after_s) == (TransientError, 7.0)
        server.fail_next(answers(400, '{"status":"invalid event"}'))
        refused = await failure(session, pagerduty, config)
    assert isinstance(refused, PermanentError)
    assert not refused.channel_broken
