"""Logs as JSON and as text for people, without secrets in either."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from app import log
from app.settings import LogFormat

KEY = "tg_0123456789012345678901234567890123456789012"
PASSWORD = "pa55:w/rd"


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    """Restore the configuration of logging after the test."""
    before = structlog.get_config()
    root = logging.getLogger()
    handlers = list(root.handlers)
    levels = {name: logging.getLogger(name).level for name in ("", "uvicorn", "apscheduler")}
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def configured(form: LogFormat, level: Any = "info") -> io.StringIO:
    stream = io.StringIO()
    log.configure(level, form, stream)
    return stream


def test_log_is_one_object_a_line_when_it_is_json() -> None:
    stream = configured("json")
    structlog.get_logger().info("upload_stored", accepted=3, gateway="line\nbreak", at={"a": [1]})
    (line,) = lines(stream)
    assert list(line)[:3] == ["time", "level", "event"]
    assert line["time"].endswith("Z")
    assert (line["level"], line["event"], line["accepted"]) == ("info", "upload_stored", 3)
    assert (line["gateway"], line["at"]) == ("line\nbreak", {"a": [1]})


def test_log_is_json_when_the_format_is_auto_and_the_stream_no_terminal() -> None:
    stream = configured("auto")
    structlog.get_logger().info("started")
    assert lines(stream)[0]["event"] == "started"


def test_log_is_text_when_the_format_is_auto_and_the_stream_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    log.configure("info", "auto", stream)
    structlog.get_logger().info("started")
    assert "started" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_log_leaves_out_events_when_they_are_below_its_level() -> None:
    stream = configured("json", "warning")
    structlog.get_logger().info("upload_stored")
    structlog.get_logger().warning("flush_failed")
    assert [line["event"] for line in lines(stream)] == ["flush_failed"]


def test_log_contains_the_variables_of_the_context() -> None:
    stream = configured("json")
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger().info("upload_stored")
    assert lines(stream)[0]["request_id"] == "r1"


def test_log_writes_values_as_text_when_json_has_no_form_for_them() -> None:
    stream = configured("json")
    structlog.get_logger().info("seen", thing=ValueError("odd"), number=float("nan"), raw=b"\xff")
    (line,) = lines(stream)
    assert (line["thing"], line["number"]) == ("odd", None)


def test_log_contains_warnings_and_errors_of_libraries() -> None:
    stream = configured("json")
    logging.getLogger("asyncio").warning("Executing %s took 2 seconds", "it")
    logging.getLogger("apscheduler.scheduler").warning("Execution skipped: maximum number of running instances")
    logging.getLogger("uvicorn.error").error("Invalid HTTP request received.")
    assert [(line["level"], line["event"]) for line in lines(stream)] == [
        ("warning", "Executing it took 2 seconds"),
        ("error", "Invalid HTTP request received."),
    ]


def test_log_leaves_out_warnings_of_libraries_when_only_errors_are_wanted() -> None:
    stream = configured("json", "error")
    logging.getLogger("asyncio").warning("Executing %s took 2 seconds", "it")
    logging.getLogger("uvicorn.error").warning("Unsupported upgrade request.")
    logging.getLogger("asyncio").error("Task was destroyed")
    assert [line["event"] for line in lines(stream)] == ["Task was destroyed"]


@pytest.mark.parametrize("level", ["debug", "info"])
def test_log_leaves_out_connections_when_uvicorn_logs_their_address(level: str) -> None:
    logging.getLogger("uvicorn").setLevel(logging.INFO)  # as uvicorn does by itself
    stream = configured("json", level)
    logging.getLogger("uvicorn.error").info('%s - "WebSocket %s" [accepted]', "1.2.3.4", "/ws?api-key=secret")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("GET /ws/sensor_updates?api-key=abc123&x=1", "GET /ws/sensor_updates?api-key=[redacted]&x=1"),
        ("/write?db=x&p=secret", "/write?db=x&p=[redacted]"),
        ("API_KEY=secret", "API_KEY=[redacted]"),
        ("postgresql://db/x?user=me&password=secret", "postgresql://db/x?user=me&password=[redacted]"),
        ("postgresql://me:secret@a:1,b:2/x", "postgresql://me:[redacted]@a:1,b:2/x"),
        ("PASSWORD=secret TOKEN=secret", "PASSWORD=[redacted] TOKEN=[redacted]"),
        ("https://api.telegram.org/bot123:ABC-def_9/sendMessage", "https://api.telegram.org/bot[redacted]/sendMessage"),
        ("to https://hooks.slack.com/services/T/B/x now", "to https://hooks.slack.com/[redacted] now"),
        (f"postgresql://me:{PASSWORD}@db:5432/x", "postgresql://me:[redacted]@db:5432/x"),
        ("postgres://me:a@b@db/x", "postgres://me:[redacted]@db/x"),
        (f"the key {KEY!r} is unknown", "the key 'tg_[redacted]' is unknown"),
        ("http://127.0.0.1:8000/?page=2", "http://127.0.0.1:8000/?page=2"),
        ("POST /api/v1/a secret/telemetry", "POST /api/v1/a secret/telemetry"),
        ("POST /api/v1/s3cret/telemetry HTTP", "POST /api/v1/[redacted]/telemetry HTTP"),
        ("step=1", "step=1"),
    ],
)
def test_redact_replaces_secrets_and_nothing_else(text: str, redacted: str) -> None:
    assert log.redact(text) == redacted


def fail(secret: str) -> None:
    raise OSError(f"cannot reach postgresql://me:{secret}@db/x with {KEY}")


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("logger", [lambda: structlog.get_logger().error, lambda: logging.getLogger("lib").error])
def test_log_shows_a_traceback_without_secrets_when_something_failed(
    form: LogFormat, logger: Callable[[], Callable[..., None]]
) -> None:
    stream = configured(form)
    secret = PASSWORD
    try:
        fail(secret)
    except OSError:
        logger()("it failed", exc_info=True)
    assert "Traceback" in stream.getvalue()
    assert "cannot reach postgresql://me:[redacted]@db/x with tg_[redacted]" in stream.getvalue()
    assert PASSWORD not in stream.getvalue()
    assert KEY not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_log_replaces_secrets_in_every_text(form: LogFormat) -> None:
    stream = configured(form)
    structlog.get_logger().warning("delivery_failed", error=f"GET /x?token={KEY}", url="/bot12:AB/send")
    logging.getLogger("lib").warning("GET /x?api_key=%s", "hidden-one")
    for secret in (KEY, "12:AB", "hidden-one"):
        assert secret not in stream.getvalue()
    assert stream.getvalue().count("[redacted]") == 3


class Opaque:
    """A thing whose text has a secret."""

    def __str__(self) -> str:
        return f"opaque {KEY}"

    __repr__ = __str__


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "value",
    [
        [KEY],
        (1, [f"x {KEY}"]),
        {KEY},
        {"inner": {"url": f"/?token={KEY}"}},
        {KEY: 1},
        ValueError(KEY),
        [OSError(f"postgresql://me:{KEY}@db/x")],
        KEY.encode(),
        Opaque(),
    ],
    ids=["list", "tuple", "set", "mapping", "name", "error", "error in a list", "bytes", "object"],
)
def test_log_replaces_secrets_inside_values(form: LogFormat, value: object) -> None:
    stream = configured(form)
    structlog.get_logger().warning("rules_refused", problems=value)
    assert KEY not in stream.getvalue()
    assert KEY.removeprefix("tg_") not in stream.getvalue()
    assert "[redacted]" in stream.getvalue()


def test_log_keeps_the_form_of_values_without_secrets() -> None:
    stream = configured("json")
    at = datetime(2026, 1, 31, 8, tzinfo=UTC)
    structlog.get_logger().info("seen", n=[1, 2.5, None, True], at=at, by={"a": ("b",), 3: [{}]})
    (line,) = lines(stream)
    assert (line["n"], line["at"], line["by"]) == (
        [1, 2.5, None, True],
        "2026-01-31T08:00:00Z",
        {"a": ["b"], "3": [{}]},
    )
