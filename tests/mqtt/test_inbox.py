"""The queue between the thread that reads from the broker and the event loop."""

import asyncio

import pytest

from app.mqtt import inbox
from app.mqtt.inbox import MessageQueue
from app.mqtt.model import MqttMessage


def message(number: int, size: int = 1) -> MqttMessage:
    return MqttMessage(f"t/{number}", b"x" * size, 0)


async def test_messages_are_taken_in_order_up_to_a_number() -> None:
    queue = MessageQueue()
    for number in range(5):
        queue.put(message(number))
    assert [each.topic for each in await queue.take(3)] == ["t/0", "t/1", "t/2"]
    assert [each.topic for each in await queue.take(3)] == ["t/3", "t/4"]
    assert len(queue) == 0


@pytest.mark.parametrize(("limit", "value"), [("WAITING_LIMIT", 2), ("WAITING_BYTES", 20)])
async def test_thread_waits_while_the_queue_is_full(monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(inbox, limit, value)
    queue = MessageQueue()
    for number in range(2):
        queue.put(message(number, 10))
    putting = asyncio.create_task(asyncio.to_thread(queue.put, message(2)))
    done, _ = await asyncio.wait([putting], timeout=0.1)
    assert not done
    assert len(await queue.take(1)) == 1
    await asyncio.wait_for(putting, 10)
    assert [each.topic for each in await queue.take(9)] == ["t/1", "t/2"]


async def test_waiting_thread_is_released_when_the_queue_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "WAITING_LIMIT", 1)
    queue = MessageQueue()
    queue.put(message(0))
    putting = asyncio.create_task(asyncio.to_thread(queue.put, message(1)))
    queue.close()
    await asyncio.wait_for(putting, 10)
    assert len(queue) == 1
