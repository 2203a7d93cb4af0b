"""The log of uploads: each one at a low rate, most of them together at a high one."""

import asyncio
from typing import Any

import structlog
from structlog.testing import capture_logs

from app.ingest.intake import UPLOADS_LOGGED_PER_S, UploadLog
from app.ingest.upload import Receipt
from tests.conftest import wait_until
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
