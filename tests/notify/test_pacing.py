import asyncio
import heapq

import pytest

from app.notify.pacing import Pacer, SendLimit


class SimulatedTime:
    """A clock that advances to the end of the shortest sleep, once all tasks sleep."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._count = 0

    def clock(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        self._count += 1
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self.now + delay_s, self._count, woken))
        await woken.wait()

    async def run(self, *tasks: asyncio.Task[None]) -> None:
        """Advance the clock until the tasks are done."""
        while not all(task.done() for task in tasks):
            for _ in range(20):
                await asyncio.sleep(0)
            if self._sleepers:
                self.now, _, woken = heapq.heappop(self._sleepers)
                woken.set()
        await asyncio.gather(*tasks)


class Sends:
    """Waits for turns and records the time of each, in seconds since the start."""

    def __init__(self, pacer: Pacer, time: SimulatedTime) -> None:
        self._pacer, self._time = pacer, time
        self.log: list[tuple[str, float]] = []

    def start(self, name: str, *limits: SendLimit) -> asyncio.Task[None]:
        return asyncio.create_task(self._send(name, limits))

    async def _send(self, name: str, limits: tuple[SendLimit, ...]) -> None:
        await self._pacer.wait_turn(*limits)
        self.log.append((name, round(self._time.now - 100.0, 3)))


@pytest.fixture
def time() -> SimulatedTime:
    return SimulatedTime()


@pytest.fixture
def pacer(time: SimulatedTime) -> Pacer:
    return Pacer(time.clock, time.sleep, keep=4)


@pytest.fixture
def sends(pacer: Pacer, time: SimulatedTime) -> Sends:
    return Sends(pacer, time)


async def test_turn_spaces_messages_in_order_when_they_go_to_one_destination(sends: Sends, time: SimulatedTime) -> None:
    limit = SendLimit("a", every_s=1.0)
    await time.run(*(sends.start(name, limit) for name in ("first", "second", "third")))
    assert sends.log == [("first", 0.0), ("second", 1.0), ("third", 2.0)]


async def test_turn_does_not_wait_when_destinations_differ(sends: Sends, time: SimulatedTime) -> None:
    await time.run(sends.start("a", SendLimit("a", every_s=1.0)), sends.start("b", SendLimit("b", every_s=1.0)))
    assert sends.log == [("a", 0.0), ("b", 0.0)]


async def test_turn_allows_a_burst_when_the_limit_has_one(sends: Sends, time: SimulatedTime) -> None:
    limit = SendLimit("a", every_s=4.0, burst=3)
    await time.run(*(sends.start(str(n), limit) for n in range(5)))
    assert sends.log == [("0", 0.0), ("1", 0.0), ("2", 0.0), ("3", 4.0), ("4", 8.0)]


async def test_turn_keeps_every_limit_when_a_message_has_several(sends: Sends, time: SimulatedTime) -> None:
    bot = SendLimit("bot", every_s=0.5)
    chats = [SendLimit("chat-a", every_s=1.0), SendLimit("chat-b", every_s=1.0)]
    await time.run(*(sends.start(f"{chat.key}-{n}", chat, bot) for n in range(2) for chat in chats))
    assert [when for _, when in sends.log] == [0.0, 0.5, 1.0, 1.5]
    by_chat = [[when for name, when in sends.log if name.startswith(chat.key)] for chat in chats]
    assert all(later - earlier >= 1.0 for earlier, later in by_chat)


async def test_hold_delays_the_next_turn_and_those_who_wait(pacer: Pacer, sends: Sends, time: SimulatedTime) -> None:
    limit = SendLimit("a", every_s=1.0)
    await time.run(sends.start("first", limit))
    second, third = sends.start("second", limit), sends.start("third", limit)
    await asyncio.sleep(0)
    pacer.hold("a", 30.0)
    assert pacer.wait_s(limit) == 30.0
    await time.run(second, third)
    assert sends.log == [("first", 0.0), ("second", 30.0), ("third", 31.0)]


async def test_hold_does_not_shorten_a_longer_one(pacer: Pacer) -> None:
    pacer.hold("a", 30.0)
    pacer.hold("a", 1.0)
    assert pacer.wait_s(SendLimit("a", every_s=1.0)) == 30.0


async def test_turn_counts_nothing_when_its_wait_is_cancelled(pacer: Pacer, sends: Sends, time: SimulatedTime) -> None:
    limit = SendLimit("a", every_s=1.0)
    await time.run(sends.start("first", limit))
    cancelled, third = sends.start("second", limit), sends.start("third", limit)
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    await time.run(third)
    assert sends.log == [("first", 0.0), ("third", 1.0)]


async def test_turn_comes_at_once_when_there_is_no_limit(pacer: Pacer) -> None:
    await pacer.wait_turn()
    assert pacer.wait_s() == 0.0


async def test_pacer_drops_idle_keys_only_when_it_has_many(pacer: Pacer, time: SimulatedTime) -> None:
    for number in range(100):
        await pacer.wait_turn(SendLimit(f"key-{number}", every_s=1.0))
        time.now += 0.5
    # At any time two keys are still paced; the others are idle.
    assert pacer.known_keys <= 5
    pacer.hold("held", 1_000.0)
    for number in range(100):
        await pacer.wait_turn(SendLimit(f"other-{number}", every_s=1.0))
        time.now += 0.5
    assert pacer.wait_s(SendLimit("held", every_s=1.0)) > 900.0


async def test_pacer_keeps_a_key_that_must_still_be_paced_when_it_has_many(time: SimulatedTime) -> None:
    pacer = Pacer(time.clock, time.sleep, keep=1)
    await pacer.wait_turn(SendLimit("a", every_s=10.0))
    for number in range(5):
        await pacer.wait_turn(SendLimit(f"other-{number}", every_s=1.0))
    assert pacer.wait_s(SendLimit("a", every_s=10.0)) == 10.0


async def test_turn_waits_on_the_real_clock_when_none_is_given() -> None:
    pacer, limit = Pacer(), SendLimit("a", every_s=0.05)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(3):
        await pacer.wait_turn(limit)
    assert 0.099 <= loop.time() - started < 1.0


async def test_turn_counts_all_its_keys_when_the_pacer_keeps_fewer(time: SimulatedTime) -> None:
    pacer = Pacer(time.clock, time.sleep, keep=1)
    chat, bot = SendLimit("chat", every_s=1.0), SendLimit("bot", every_s=0.5)
    await pacer.wait_turn(chat, bot)
    assert (pacer.wait_s(chat), pacer.wait_s(bot)) == (1.0, 0.5)
