"""The hub and the queues of subscribers, without sockets: sent messages are collected in a list."""

import asyncio
import json
from typing import Any

import pytest

from app.live import hub
from app.live.frames import Frame, FramedMessage
from app.live.hub import Hub
from app.live.protocol import CloseCode, Cursor, Filter, Subscribe
from app.live.queues import readings, waiting
from app.live.queues.readings import VALUE_BYTES, AllFrames, LatestValues
from app.live.queues.waiting import ClosedError, Waiting
from app.live.wire import frame_text
from app.metrics import Metrics
from tests.conftest import wait_until
from tests.live.clients import Collector

EVERYTHING = Filter(["*"], ["*"])


def at(seq: int) -> Cursor:
    return Cursor("e", seq)


def frame(seq: int, *readings: tuple[str, str, dict[str, float]]) -> Frame:
    payload = {"readings": [{"sensor": s, "time": t, "values": v} for s, t, v in readings]}
    return Frame(at(seq), "readings", json.dumps(payload).encode())


def alert(seq: int, state: str = "firing") -> Frame:
    return Frame(at(seq), "alert", json.dumps({"state": state}).encode())


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
def feed(metrics: Metrics) -> Hub:
    return Hub(metrics)


@pytest.fixture
def wire() -> Collector:
    return Collector()


@pytest.fixture
def everything(feed: Hub, wire: Collector, closings: Closings, metrics: Metrics) -> AllFrames:
    return AllFrames(EVERYTHING, Subscribe(alerts=True), at(0), wire, feed.backlog, closings, metrics)


@pytest.fixture
def latest(feed: Hub, wire: Collector, closings: Closings, metrics: Metrics) -> LatestValues:
    return LatestValues(EVERYTHING, Subscribe(alerts=True), at(0), wire, feed.backlog, closings, metrics)


def drain(queue: AllFrames | LatestValues) -> list[dict[str, Any]]:
    """Let the client take all waiting messages; return them."""
    wire = queue._wire
    assert isinstance(wire, Collector)
    wire.open.set()
    queue.flush()
    taken, wire.messages = wire.messages, []
    return taken


async def test_all_frames_keeps_order_when_frames_wait(everything: AllFrames) -> None:
    for seq in (1, 2, 5):
        everything.offer(frame(seq, ("s", "2026-01-01T00:00:00Z", {"m": seq})))
    assert [message["cursor"] for message in drain(everything)] == ["e.1", "e.2", "e.5"]
    assert everything.sent == at(5)


async def test_all_frames_moves_its_cursor_when_a_message_was_sent(everything: AllFrames, wire: Collector) -> None:
    wire.open.clear()
    everything.offer(frame(1, ("s", "2026-01-01T00:00:00Z", {"m": 1})))
    everything.flush()
    assert everything.sent == at(0)
    wire.open.set()
    everything.flush()
    assert everything.sent == at(1)


async def test_all_frames_writes_at_once_when_its_client_keeps_up(
    feed: Hub, wire: Collector, everything: AllFrames
) -> None:
    feed.add(everything)
    feed.publish([frame(seq, ("s", "2026-01-01T00:00:00Z", {"m": seq})) for seq in (1, 2, 3)])
    assert [message["cursor"] for message in wire.messages] == ["e.1", "e.2", "e.3"]
    assert wire.writes == [3], "what waits together is written together"


async def test_all_frames_goes_on_when_its_client_can_take_more(wire: Collector, everything: AllFrames) -> None:
    writing = asyncio.create_task(everything.flush_forever())
    for seq in (1, 2):
        wire.open.clear()
        everything.offer(frame(seq, ("s", "2026-01-01T00:00:00Z", {"m": seq})))
        everything.flush()
        await asyncio.sleep(0)
        assert len(everything) == 1
        wire.open.set()
        await wait_until(lambda: not everything)
    assert [message["cursor"] for message in wire.messages] == ["e.1", "e.2"]
    writing.cancel()


async def test_all_frames_writes_a_part_when_much_waits(
    wire: Collector, everything: AllFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [frame(seq, ("s" * size, "2026-01-01T00:00:00Z", {"m": seq})) for seq, size in ((1, 9), (2, 9), (3, 900))]
    monkeypatch.setattr(waiting, "WRITE_BYTES", 300)
    for each in frames:
        everything.offer(each)
    everything.flush()
    assert wire.writes == [2, 1]


async def test_all_frames_ignores_frames_when_its_client_has_them_from_another_process(
    everything: AllFrames,
) -> None:
    everything.sent = at(7)
    for seq in (6, 7, 8):
        everything.offer(frame(seq, ("s", "2026-01-01T00:00:00Z", {"m": seq})))
    assert [message["cursor"] for message in drain(everything)] == ["e.8"]


async def test_all_frames_drops_its_client_once_when_its_queue_is_full(
    everything: AllFrames, closings: Closings, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "QUEUE_BYTES", 300)
    for seq in range(1, 10):
        everything.offer(frame(seq, ("s", "2026-01-01T00:00:00Z", {"m": seq})))
    assert [(error.code, error.reason) for error in closings.errors] == [(CloseCode.TOO_SLOW, "e.0")]
    assert metrics.registry.get_sample_value("tidegauge_clients_dropped_total") == 1


async def test_all_frames_sends_nothing_past_a_gap_when_its_queue_was_full(
    everything: AllFrames, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "QUEUE_BYTES", 300)
    everything.offer(frame(1, ("s", "2026-01-01T00:00:00Z", {"m": 1})))
    everything.offer(frame(2, ("s" * 300, "2026-01-01T00:00:00Z", {"m": 2})))  # does not fit into the queue
    everything.offer(frame(3, ("s", "2026-01-01T00:00:00Z", {"m": 3})))  # would fit, but 2 is missing
    assert drain(everything) == []


async def test_all_frames_closes_with_the_last_cursor_sent_when_its_queue_is_full(
    everything: AllFrames, wire: Collector, closings: Closings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "QUEUE_BYTES", 200)
    everything.offer(frame(1, ("s", "2026-01-01T00:00:00Z", {"m": 1})))
    everything.flush()
    wire.open.clear()
    for seq in (2, 3):
        everything.offer(frame(seq, ("s" * 100, "2026-01-01T00:00:00Z", {"m": 2})))
    assert [error.reason for error in closings.errors] == ["e.1"]


async def test_all_frames_counts_bytes_when_names_are_not_ascii(
    everything: AllFrames, closings: Closings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "QUEUE_BYTES", 400)
    for seq in (1, 2):  # each has 100 characters of two bytes, and 95 of one byte
        payload = {"readings": [{"sensor": "ø" * 100, "time": "2026-01-01T00:00:00Z", "values": {"m": seq}}]}
        everything.offer(Frame(at(seq), "readings", json.dumps(payload, ensure_ascii=False).encode()))
    assert [error.code for error in closings.errors] == [CloseCode.TOO_SLOW]


async def test_all_frames_queues_a_frame_beyond_its_limit_when_nothing_waits(
    everything: AllFrames, closings: Closings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "QUEUE_BYTES", 10)
    everything.offer(frame(1, ("s", "2026-01-01T00:00:00Z", {"m": 1})))
    assert [message["cursor"] for message in drain(everything)] == ["e.1"]
    assert closings.errors == []


async def test_latest_values_conflates_when_its_client_is_slow(latest: LatestValues, metrics: Metrics) -> None:
    latest.offer(frame(1, ("s", "2026-01-01T00:00:01Z", {"m": 1, "n": 10})))
    latest.offer(frame(2, ("s", "2026-01-01T00:00:02Z", {"m": 2})))
    latest.offer(frame(3, ("s", "2026-01-01T00:00:03Z", {"m": 3})))
    (message,) = drain(latest)
    assert len(latest) == 0
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
    assert len(drain(latest)) == 1
    latest.offer(frame(2, ("s", late, {"m": 2})))
    assert drain(latest) == []


async def test_latest_values_ignores_readings_when_they_are_older_than_its_snapshot(latest: LatestValues) -> None:
    latest.begin([(("s", "m"), "2026-01-01T00:00:05Z")])
    latest.offer(frame(1, ("s", "2026-01-01T00:00:04Z", {"m": 1, "n": 7})))
    (message,) = drain(latest)
    assert message["readings"] == [{"sensor": "s", "time": "2026-01-01T00:00:04Z", "values": {"n": 7.0}}]


async def test_latest_values_keeps_every_alert_when_its_client_is_slow(latest: LatestValues) -> None:
    for seq, state in ((1, "firing"), (2, "resolved"), (3, "firing")):
        latest.offer(alert(seq, state))
    assert [(message["cursor"], message["state"]) for message in drain(latest)] == [
        ("e.1", "firing"),
        ("e.2", "resolved"),
        ("e.3", "firing"),
    ]


async def test_latest_values_sends_no_cursor_past_waiting_messages_when_an_alert_waits(latest: LatestValues) -> None:
    """A client that disconnects after any message and resumes there must receive the rest."""
    latest.offer(frame(4, ("s", "2026-01-01T00:00:01Z", {"m": 1})))
    latest.offer(alert(5))
    latest.offer(frame(6, ("s", "2026-01-01T00:00:02Z", {"m": 2})))
    messages = drain(latest)
    assert [(message["type"], message["cursor"]) for message in messages] == [("readings", "e.4"), ("alert", "e.5")]
    assert messages[0]["readings"][0]["values"] == {"m": 2.0}


async def test_latest_values_closes_with_the_last_cursor_sent_when_its_client_is_too_slow(
    latest: LatestValues, closings: Closings, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest.offer(frame(1, ("s", "2026-01-01T00:00:01Z", {"m": 1})))
    drain(latest)
    monkeypatch.setattr(readings, "CONFLATED_LIMIT", 2)
    for seq in (2, 3, 4, 5):
        latest.offer(alert(seq))
    assert [(error.code, error.reason) for error in closings.errors] == [(CloseCode.TOO_SLOW, "e.1")]
    assert drain(latest) == []


async def test_latest_values_closes_when_more_than_its_limit_waits(
    latest: LatestValues, wire: Collector, closings: Closings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "CONFLATED_LIMIT", 3)
    wire.open.clear()
    latest.offer(frame(1, ("s", "2026-01-01T00:00:00Z", {"a": 1, "b": 2, "c": 3})))
    assert closings.errors == []
    latest.offer(frame(2, ("s", "2026-01-01T00:00:01Z", {"d": 4})))
    assert [error.code for error in closings.errors] == [CloseCode.TOO_SLOW]
    assert len(latest) == 0


@pytest.mark.parametrize("mode", ["all", "latest"])
def test_queue_gives_back_its_bytes_when_it_is_discarded(
    mode: str, feed: Hub, metrics: Metrics, closings: Closings
) -> None:
    wire = Collector()
    wire.open.clear()
    make = AllFrames if mode == "all" else LatestValues
    queue = make(EVERYTHING, Subscribe(alerts=True), at(0), wire, feed.backlog, closings, metrics)
    feed.add(queue)
    feed.publish([frame(1, ("s", "2026-01-01T00:00:00Z", {"a": 1, "b": 2})), alert(2)])
    feed.send_heartbeat(b"{}")
    assert feed.backlog.bytes == queue.waiting_bytes > 0
    queue.discard()
    assert (feed.backlog.bytes, queue.waiting_bytes, len(queue)) == (0, 0, 0)


@pytest.mark.parametrize(("sizes", "taken"), [((30_000, 35_536), 2), ((30_000, 35_537), 1), ((70_000, 1), 1)])
def test_messages_are_written_together_up_to_64_kib(sizes: tuple[int, int], taken: int, feed: Hub) -> None:
    queue: Waiting[int] = Waiting(feed.backlog)
    for number, size in enumerate(sizes):
        message = FramedMessage(b"x" * size)
        message.framed = b"x" * size
        queue.put(number, message)
    position, frames = queue.take()
    assert (position, len(frames), len(queue)) == (taken - 1, taken, 2 - taken)
    assert feed.backlog.bytes == queue.bytes == sum(sizes[taken:])


def test_waiting_messages_of_a_position_are_given_back_when_they_are_removed(feed: Hub) -> None:
    queue: Waiting[int] = Waiting(feed.backlog)
    kept = FramedMessage(b"kept")
    for position, message in ((1, FramedMessage(b"one")), (2, kept), (1, FramedMessage(b"another"))):
        queue.put(position, message)
    queue.remove(1)
    assert (len(queue), queue.first) == (1, 2)
    assert feed.backlog.bytes == queue.bytes == len(kept)


def test_hub_closes_nobody_when_what_waits_is_for_clients_that_catch_up(
    feed: Hub, everything: AllFrames, closings: Closings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "ALL_QUEUES_BYTES", 1_000)
    feed.add(everything)
    # A page of frames that a client which has not caught up yet is being sent.
    feed.backlog.hold(FramedMessage(b"x" * 2_000))
    feed.publish([frame(1, ("s", "2026-01-01T00:00:00Z", {"m": 1}))])
    assert closings.errors == []


def test_hub_continues_from_its_head_when_it_begins_again(feed: Hub) -> None:
    feed.begin("e", 5, 0)
    feed.publish([frame(6), frame(9)])
    feed.begin("e", 12, 3)
    assert feed.cursor == at(9)


@pytest.mark.parametrize(
    ("epoch", "head", "pruned_to"), [("f", 3, 0), ("f", 50, 0), ("e", 20, 11)], ids=["older", "newer", "pruned"]
)
def test_hub_closes_its_clients_when_rows_past_its_head_are_gone(
    feed: Hub, everything: AllFrames, closings: Closings, epoch: str, head: int, pruned_to: int
) -> None:
    feed.begin("e", 10, 0)
    feed.add(everything)
    feed.begin(epoch, head, pruned_to)
    assert [error.code for error in closings.errors] == [CloseCode.SERVICE_RESTART]
    assert feed.cursor == Cursor(epoch, head)
    feed.publish([frame(51, ("s", "2026-01-01T00:00:01Z", {"m": 1}))])
    assert len(everything) == 0, "a frame of the new epoch would hide the missing frames before it"


def test_hub_offers_nothing_when_a_subscriber_left(feed: Hub, everything: AllFrames) -> None:
    feed.add(everything)
    feed.remove(everything)
    feed.remove(everything)
    feed.publish([frame(1, ("s", "2026-01-01T00:00:01Z", {"m": 1}))])
    assert len(everything) == 0


def slow_client(feed: Hub, metrics: Metrics, closings: Closings, sensors: str = "*", mode: str = "all") -> Collector:
    """Add a client that takes nothing until its connection is opened."""
    wire = Collector()
    wire.open.clear()
    make = AllFrames if mode == "all" else LatestValues
    feed.add(make(Filter([sensors], ["*"]), Subscribe(), at(0), wire, feed.backlog, closings, metrics))
    return wire


def test_hub_counts_a_message_once_when_it_waits_for_several_clients(
    feed: Hub, metrics: Metrics, closings: Closings
) -> None:
    wires = [slow_client(feed, metrics, closings) for _ in range(3)]
    row = frame(1, ("s", "2026-01-01T00:00:00Z", {"m": 1}))
    message = row.message_for(EVERYTHING, False)
    assert message is not None
    feed.publish([row])
    assert feed.backlog.bytes == len(message)
    for wire, left in zip(wires, (len(message), len(message), 0), strict=True):
        wire.open.set()
        feed.publish([])
        assert feed.backlog.bytes == left


def test_hub_closes_the_slowest_client_when_all_queues_together_are_full(
    feed: Hub, metrics: Metrics, closings: Closings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "ALL_QUEUES_BYTES", 2_000)
    little = slow_client(feed, metrics, closings, "a")
    slow_client(feed, metrics, closings, "b")
    for seq in range(1, 20):
        feed.publish([frame(seq, ("a" if seq == 1 else "b", "2026-01-01T00:00:00Z", {"m": seq}))])
        assert feed.backlog.bytes <= 2_000
    assert [(error.code, error.reason) for error in closings.errors] == [(CloseCode.TOO_SLOW, "e.0")]
    little.open.set()
    feed.publish([])
    assert [message["cursor"] for message in little.messages] == ["e.1"]
    assert feed.backlog.bytes == 0


def test_hub_counts_waiting_values_when_a_client_of_latest_is_slow(
    feed: Hub, metrics: Metrics, closings: Closings
) -> None:
    wire = slow_client(feed, metrics, closings, mode="latest")
    for seq in (1, 2):
        feed.publish([frame(seq, ("s", f"2026-01-01T00:00:0{seq}Z", {"m": 1, "n": 2}))])
    assert feed.backlog.bytes == 2 * VALUE_BYTES
    wire.open.set()
    feed.publish([])
    assert feed.backlog.bytes == 0


@pytest.mark.parametrize(
    ("size", "head"),
    [(0, "8100"), (125, "817d"), (126, "817e007e"), (65_535, "817effff"), (65_536, "817f0000000000010000")],
)
def test_frame_text_writes_the_length_when_it_takes_more_bytes(size: int, head: str) -> None:
    assert frame_text(b"x" * size) == bytes.fromhex(head) + b"x" * size
