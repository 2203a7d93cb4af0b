"""One message, and how the tests of channels send it."""

import aiohttp
import pytest

from app.notify.channels import Channel
from app.notify.message import Entry, Link, Message
from app.notify.transport import ChannelConfig, Delivered, DeliveryError, Endpoints

FREEZER = Entry(
    level="critical",
    sensor="freezer_3",
    metric="temperature",
    value=-8.5,
    unit="°C",
    condition="above -10",
    links=(Link("Page", "https://t.example/#/alert/7"),),
    note="@everyone [door](open)?",
)
MESSAGE = Message(title="1 critical: cold", entries=(FREEZER,), group_key="cold", page="https://t.example/#/alert/7")


async def send(session: aiohttp.ClientSession, channel: Channel, config: ChannelConfig, message: Message) -> Delivered:
    return await channel.send(session, config, channel.render(message), Endpoints())


async def failure(
    session: aiohttp.ClientSession, channel: Channel, config: ChannelConfig, message: Message = MESSAGE
) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await send(session, channel, config, message)
    return caught.value
