import asyncio

import aiohttp
import pytest

from app.errors import SettingsError
from app.simulate.buffer import Measurement
from app.simulate.delivery import DeliveryCounts, GivenUpError, Tries, UploadDelivery
from app.simulate.plan import Plan
from app.simulate.world.behaviour import Behaviour
from app.simulate.world.timeline import EventTimeline
from app.uplink import Encoding, Uplink
from tests.conftest import wait_until
from tests.ports import free_port
from tests.simulate.scripted import ScriptedServer

#: 2026-06-01T00:00:00Z
NOW_US = 1_780_272_000_000_000
PLAN = Plan(url="", key="key", retry_s=0.01, patience_s=0.05)


def make_readings(count: int) -> list[Measurement]:
    return [
        Measurement("cellar", NOW_US // 1_000 + number, {"temperature": 12.5, "humidity": 60.0})
        for number in range(count)
    ]


class Sender:
    """A delivery with its own connection, counts and timeline."""

    def __init__(self, url: str, http: aiohttp.ClientSession, behaviour: Behaviour = Behaviour()) -> None:  # noqa: B008
        self.timeline = EventTimeline(NOW_US, NOW_US, None)
        self.counts = DeliveryCounts()
        self.delivery = UploadDelivery("gw", PLAN, behaviour, self.timeline, self.counts)
        self._uplink = Uplink(http, url, "key", behaviour.encoding)

    @property
    def tries(self) -> Tries:
        return self.delivery.tries

    async def deliver(self, readings: list[Measurement]) -> None:
        await self.delivery.deliver(self._uplink, readings)


async def test_delivery_waits_as_long_as_the_server_asks_when_it_is_busy() -> None:
    async with ScriptedServer((503, {"Retry-After": "1"})) as server, aiohttp.ClientSession() as http:
        sender = Sender(server.url, http)
        await sender.deliver(make_readings(2))
    first, second = server.requests
    assert second.at - first.at >= 0.99
    assert second.body == first.body
    assert sender.counts == DeliveryCounts(sent=8, accepted=4)
    assert sender.tries == Tries(uploads=1, retries=1, last_answer="200", last_refusal="")


async def test_delivery_keeps_its_readings_when_the_server_is_not_up_yet() -> None:
    port = free_port()
    async with aiohttp.ClientSession() as http:
        sender = Sender(f"http://127.0.0.1:{port}", http)
        delivering = asyncio.create_task(sender.deliver(make_readings(2)))
        await wait_until(lambda: sender.tries.retries >= 2)
        assert sender.delivery.unacknowledged == 4
        assert sender.tries.last_answer == "no connection"
        async with ScriptedServer(port=port) as server:
            await delivering
    assert len(server.requests) == 1
    assert sender.counts == DeliveryCounts(sent=4, accepted=4)
    assert sender.delivery.unacknowledged == 0


async def test_delivery_sends_halves_when_the_body_is_too_large() -> None:
    async with ScriptedServer((413, {}), (413, {})) as server, aiohttp.ClientSession() as http:
        sender = Sender(server.url, http)
        await sender.deliver(make_readings(6))
    assert [len(request.readings) for request in server.requests] == [6, 3, 1, 2, 3]
    assert sender.counts == DeliveryCounts(sent=30, accepted=12)


async def test_delivery_counts_rejected_values_when_a_body_is_refused_for_good() -> None:
    async with ScriptedServer((413, {}), (422, {})) as server, aiohttp.ClientSession() as http:
        sender = Sender(server.url, http)
        await sender.deliver(make_readings(1))
        await sender.deliver(make_readings(1))
    assert len(server.requests) == 2
    assert sender.counts == DeliveryCounts(sent=4, rejected=4)
    assert sender.tries.last_refusal == "as the script says"


async def test_delivery_raises_when_the_first_answer_refuses_the_key() -> None:
    async with ScriptedServer((401, {})) as server, aiohttp.ClientSession() as http:
        sender = Sender(server.url, http)
        with pytest.raises(SettingsError, match=r"answers 401 \(as the script says\); give a key"):
            await sender.deliver(make_readings(1))


async def test_delivery_keeps_its_readings_when_the_key_is_revoked_later() -> None:
    async with ScriptedServer((400, {}), (401, {})) as server, aiohttp.ClientSession() as http:
        sender = Sender(server.url, http)
        await sender.deliver(make_readings(1))
        await sender.deliver(make_readings(1))
    assert len(server.requests) == 3
    assert sender.counts == DeliveryCounts(sent=6, accepted=2, rejected=2)


async def test_delivery_gives_up_when_the_timeline_has_ended_and_the_server_is_down() -> None:
    async with aiohttp.ClientSession() as http:
        sender = Sender(f"http://127.0.0.1:{free_port()}", http)
        sender.timeline.stop()
        with pytest.raises(GivenUpError):
            await sender.deliver(make_readings(2))
    assert sender.delivery.unacknowledged == 4
    assert sender.tries.retries >= 1


# zstd is tested against the real server, because aiohttp cannot decode it.
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_delivery_sends_the_same_bytes_under_one_key_when_the_answer_is_lost(encoding: Encoding) -> None:
    behaviour = Behaviour(encoding, lost_answers=1.0, idempotent=True)
    async with ScriptedServer() as server, aiohttp.ClientSession() as http:
        sender = Sender(server.url, http, behaviour)
        await sender.deliver(make_readings(5))
        await sender.deliver(make_readings(4))
    first, again, other, _ = server.requests
    assert first.body == again.body
    keys = [request.headers["Idempotency-Key"] for request in server.requests]
    assert keys[0] == keys[1] != keys[2] == keys[3]
    assert len(other.readings) == 4
    assert sender.tries.lost_answers == 2


async def test_delivery_shuffles_readings_when_there_are_many() -> None:
    readings = make_readings(50)
    async with ScriptedServer() as server, aiohttp.ClientSession() as http:
        await Sender(server.url, http).deliver(readings)
    times = [reading["time"] for reading in server.requests[0].readings]
    assert times != sorted(times)
    assert sorted(times) == [reading.time for reading in readings]
