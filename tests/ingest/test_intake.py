"""The log of uploads: each one at a low rate, most of them together at a high one; and the turns of the event loop."""

import asyncio
from time import thread_time
from typing import Any

import structlog
from structlog.testing import capture_logs

from app.clock import now_us
from app.ingest.uploads.log import UPLOADS_LOGGED_PER_S, UploadLog
from app.ingest.uploads.receipt import Receipt
from tests.conftest import Server, wait_until
from tests.ingest.client import send
from tests.ingest.uploads import reading, upload


async def test_uploads_are_logged_together_when_more_come_in_a_second() -> None:
    with capture_logs() as lines, structlog.contextvars.bound_contextvars(request_id="first"):
        log = UploadLog()
        for number in range(UPLOADS_LOGGED_PER_S + 3):
            log.note(upload(reading("pi1")), Receipt(number or None, 2, 1, [], 3))
        assert [line["event"] for line in lines] == ["upload_stored"] * 50
        await wait_until(lambda: len(lines) > 50)
        log.note(upload(reading("pi1")), Receipt(None, 0, 1, [], 0))
    together: dict[str, Any] = {"uploads": 3, "accepted": 6, "duplicates": 3, "rejected": 9, "seq": 52}
    assert lines[50] == {"event": "uploads_stored", "log_level": "info", **together}
    assert [line["event"] for line in lines[51:]] == ["upload_stored"]


async def test_no_line_follows_when_few_uploads_come_in_a_second() -> None:
    with capture_logs() as lines:
        log = UploadLog()
        log.note(upload(reading("pi1"), gateway="roof"), Receipt(7, 1, 0, [], 0))
        ended = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1.05, ended.set_result, None)
        await ended
    assert [(line["event"], line["key"], line["gateway"], line["seq"]) for line in lines] == [
        ("upload_stored", "API_KEY", "roof", 7)
    ]


async def test_event_loop_goes_on_while_the_largest_bodies_are_stored(server: Server) -> None:
    """The loop's own processor time between two turns counts, so that other programs do not disturb the test."""
    now_ms = now_us() // 1_000
    many = [
        {"sensor": f"pi{number % 500}", "time": now_ms - number, "values": {"a": number}} for number in range(60_000)
    ]
    described = [{**each, "tags": {"site": "roof"}, "values": {"b": 1, "c": "bad"}} for each in many[:30_000]]
    holds: list[float] = []
    watching = asyncio.create_task(_note_holds(holds))
    for body in (many, many, described):
        answer = await send(server, body)
        assert answer.status == 200
    watching.cancel()
    assert len(holds) > 50
    assert max(holds) < 0.1


async def _note_holds(holds: list[float]) -> None:
    while True:
        before = thread_time()
        await asyncio.sleep(0)
        holds.append(thread_time() - before)
