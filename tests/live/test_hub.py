"""The hub and the queues of subscribers, without sockets: sent messages are collected in a list."""

import asyncio
import json
from typing import Any

import pytest

from app.live import hub
from app.live.frames import Frame
from app.live.hub import AllFrames, ClosedError, Hub, LatestValues
from app.live.protocol import CloseCode, Cursor, Filter, Subscribe
from app.metrics import Metrics

EVERYTHING = Filter(["*"], ["*"])


def at(seq: int) -> Cursor:
    return Cursor("e", seq)


def frame(seq: int, *readings: tuple[str, str, dict[str, float]]) -> Frame:
    payload = {"readings": [{"sensor": s, "time": t, "values": v} for s, t, v in readings]}
    return Frame(at(seq), "readings", json.dumps(payload).encode())


def alert(seq: int, state: str = "firing") -> Frame:
    return Frame(at(seq), "alert", json.dumps({"state": state}).encode())


class Collector:
    """Takes messages in place of a connection; while `open` is cleared, sending blocks."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, text: str) -> None:
        await self.open.wait()
        self.messages.append(json.loads(text))


class Closings:
    """The errors with which a subscriber closed its connection."""

    def __init__(self) -> None:
        self.errors: list[ClosedError] = []

    def __call__(self, error: ClosedError) -> None:
        self.errors.append(error)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def closings() -> Closings:
    return Closings()


@pytest.fixture
def everything(metrics: Metrics, closings: Closings) -> AllFrames:
    return AllFrames(EVERYTHING, Subscribe(alerts=True), at(0), closings, metrics)


@pytest.fixture
def latest(metrics: Metrics, closings: Closings) -> LatestValues:
    return LatestValues(EVERYTHING, Subscribe(alerts=True), at(0), closings, metrics)


async def drain(queue: AllFrames | LatestValues) -> list[dict[str, Any]]:
    collector = Collector()
    while queue:
        await queue.send_next(collector.send)
    return collector.messages


async def test_all_frames_keeps_order_when_frames_wait(everything: AllFrames) -> None:
    for seq in (1, 2, 5):
        everything.offer(frame(seq, ("s", "2026-01-01T00:00:00Z", {"m": seq})))
    assert [message["cursor"] for message in await drain(everything)] == ["e.1", "e.2", "e.5"]
    assert everything.sent == at(5)


async def test_all_frames_moves_its_cursor_when_a_message_was_sent(everything: AllFrames) -> None:
    collector = Collector()
    collector.open.clear()
    everything.offer(frame(1, ("s", "2026-01-01T00:00:00Z", {"m": 1})))
    sending = asyncio.create_task(everything.send_next(collector.send))
    await asyncio.sleep(0)
    assert everything.sent == at(0)
    collector.open.set()
    await sending
    assert everything.sent == at(1)


async def test_all_frames_ignores_frames_when_its_client_has_them_from_another_process(
    everything: AllFrames,
) -> None:
    everything.sent = at(7)
    for seq in (6, 7, 8):
        everything.offer(frame(seq, ("s", "2026-01-01T00:00:00Z", {"m": seq})))
    assert [message["cursor"] for message in await drain(everything)] == ["e.8"]


async def test_all_frames_drops_its_client_once_when_its_queue_is_full(
    everything: AllFrames, closings: Closings, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUEUE_BYTES", 300)
    for seq in range(1, 10):
        everything.offer(frame(seq, ("s", "2026-01-01T00:00:00Z", {"m": seq})))
    assert [(error.code, error.reason) for error in closings.errors] == [(CloseCode.TOO_SLOW, "e.0")]
    assert metrics.registry.get_sample_value("tidegauge_clients_dropped_total") == 1


async def test_all_frames_sends_nothing_past_a_gap_when_its_queue_was_full(
    everything: AllFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUEUE_BYTES", 300)
    everything.offer(frame(1, ("s", "2026-01-01T00:00:00Z", {"m": 1})))
    everything.offer(frame(2, ("s" * 300, "2026-01-01T00:00:00Z", {"m": 2})))  # does not fit into the queue
    everything.offer(frame(3, ("s", "2026-01-01T00:00:00Z", {"m": 3})))  # would fit, but 2 is missing
    assert await drain(everything) == []


async def test_all_frames_closes_with_the_last_cursor_sent_when_a_frame_was_being_sent(
    everything: AllFrames, closings: Closings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUEUE_BYTES", 200)
    collector = Collector()
    collector.open.clear()
    everything.offer(frame(1, ("s", "2026-01-01T00:00:00Z", {"m": 1})))
    sending = asyncio.create_task(everything.send_next(collector.send))
    await asyncio.sleep(0)
    everything.offer(frame(2, ("s" * 300, "2026-01-01T00:00:00Z", {"m": 2})))
    collector.open.set()
    await sending
    assert [error.reason for error in closings.errors] == ["e.1"]


async def test_all_frames_queues_a_frame_beyond_its_limit_when_nothing_waits(
    everything: AllFrames, closings: Closings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "QUEUE_BYTES", 10)
    everything.offer(frame(1, ("s", "2026-01-01T00:00:00Z", {"m": 1})))
    assert [message["cursor"] for message in await drain(everything)] == ["e.1"]
    assert closings.errors == []


async def test_latest_values_conflates_when_its_client_is_slow(latest: LatestValues, metrics: Metrics) -> None:
    latest.offer(frame(1, ("s", "2026-01-01T00:00:01Z", {"m": 1, "n": 10})))
    latest.offer(frame(2, ("s", "2026-01-01T00:00:02Z", {"m": 2})))
    latest.offer(frame(3, ("s", "2026-01-01T00:00:03Z", {"m": 3})))
    (message,) = await drain(latest)
    assert message == {
        "type": "readings",
        "cursor": "e.3",
        "readings": [
            {"sensor": "s", "time": "2026-01-01T00:00:03Z", "values": {"m": 3.0}},
            {"sensor": "s", "time": "2026-01-01T00:00:01Z", "values": {"n": 10.0}},
        ],
    }
    assert metrics.registry.get_sample_value("tidegauge_frames_conflated_total") == 2


@pytest.mark.parametrize(
    ("shown", "late"),
    [
        ("2026-01-01T00:00:02Z", "2026-01-01T00:00:01Z"),
        ("2026-01-01T00:00:02.500000Z", "2026-01-01T00:00:02Z"),
        ("2026-01-01T00:00:02.500000Z", "2026-01-01T00:00:02.499999Z"),
        ("2026-01-01T00:00:10Z", "2026-01-01T00:00:09.999999Z"),
    ],
)
async def test_latest_values_ignores_readings_when_they_are_late(latest: LatestValues, shown: str, late: str) -> None:
    latest.offer(frame(1, ("s", shown, {"m": 1})))
    assert len(await drain(latest)) == 1
    latest.offer(frame(2, ("s", late, {"m": 2})))
    assert await drain(latest) == []


async def test_latest_values_ignores_readings_when_they_are_older_than_its_snapshot(latest: LatestValues) -> None:
    latest.begin([(("s", "m"), "2026-01-01T00:00:05Z")])
    latest.offer(frame(1, ("s", "2026-01-01T00:00:04Z", {"m": 1, "n": 7})))
    (message,) = await drain(latest)
    assert message["readings"] == [{"sensor": "s", "time": "2026-01-01T00:00:04Z", "values": {"n": 7.0}}]


async def test_latest_values_keeps_every_alert_when_its_client_is_slow(latest: LatestValues) -> None:
    for seq, state in ((1, "firing"), (2, "resolved"), (3, "firing")):
        latest.offer(alert(seq, state))
    assert [(message["cursor"], message["state"]) for message in await drain(latest)] == [
        ("e.1", "firing"),
        ("e.2", "resolved"),
        ("e.3", "firing"),
    ]


async def test_latest_values_sends_no_cursor_past_waiting_messages_when_an_alert_waits(latest: LatestValues) -> None:
    """A client that disconnects after any message and resumes there must receive the rest."""
    latest.offer(frame(4, ("s", "2026-01-01T00:00:01Z", {"m": 1})))
    latest.offer(alert(5))
    latest.offer(frame(6, ("s", "2026-01-01T00:00:02Z", {"m": 2})))
    messages = await drain(latest)
    assert [(message["type"], message["cursor"]) for message in messages] == [("readings", "e.4"), ("alert", "e.5")]
    assert messages[0]["readings"][0]["values"] == {"m": 2.0}


async def test_latest_values_closes_with_the_last_cursor_sent_when_its_client_is_too_slow(
    latest: LatestValues, closings: Closings, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest.offer(frame(1, ("s", "2026-01-01T00:00:01Z", {"m": 1})))
    await drain(latest)
    monkeypatch.setattr(hub, "CONFLATED_LIMIT", 2)
    for seq in (2, 3, 4, 5):
        latest.offer(alert(seq))
    assert [(error.code, error.reason) for error in closings.errors] == [(CloseCode.TOO_SLOW, "e.1")]
    assert await drain(latest) == []


def test_hub_continues_from_its_head_when_it_begins_again(metrics: Metrics) -> None:
    feed = Hub(metrics)
    feed.begin("e", 5, 0)
    feed.publish([frame(6), frame(9)])
    feed.begin("e", 12, 3)
    assert feed.cursor == at(9)


@pytest.mark.parametrize(
    ("epoch", "head", "pruned_to"), [("f", 3, 0), ("f", 50, 0), ("e", 20, 11)], ids=["older", "newer", "pruned"]
)
def test_hub_closes_its_clients_when_rows_past_its_head_are_gone(
    metrics: Metrics, everything: AllFrames, closings: Closings, epoch: str, head: int, pruned_to: int
) -> None:
    feed = Hub(metrics)
    feed.begin("e", 10, 0)
    feed.add(everything)
    feed.begin(epoch, head, pruned_to)
    assert [error.code for error in closings.errors] == [CloseCode.SERVICE_RESTART]
    assert feed.cursor == Cursor(epoch, head)
    feed.publish([frame(51, ("s", "2026-01-01T00:00:01Z", {"m": 1}))])
    assert len(everything) == 0, "a frame of the new epoch would hide the missing frames before it"


def test_hub_offers_nothing_when_a_subscriber_left(metrics: Metrics, everything: AllFrames) -> None:
    feed = Hub(metrics)
    feed.add(everything)
    feed.remove(everything)
    feed.remove(everything)
    feed.publish([frame(1, ("s", "2026-01-01T00:00:01Z", {"m": 1}))])
    assert len(everything) == 0
