"""Numbers in the documents are those of the program."""

import pytest

from app.auth.key_ring import REVOKED_WITHIN_S
from app.auth.reads import READ_TIMEOUT_S, READ_WAIT_S, READS_RUNNING, READS_WAITING
from app.broker.delivery import DEADLINE_S as BROKER_DEADLINE_S
from app.broker.pacing import HOLD_LIMIT_S, PACED_FOR_S, READ_EVERY_S
from app.broker.rates import DEFAULT_RATE
from app.broker.store import KEPT_FOR, KEPT_ROWS
from app.clock import DAY_US, MINUTE_US
from app.commands.processes.server import ANSWER_AT_STOP_S
from app.db.aggregates import MINUTE_RETENTION, OLDEST_ACCEPTED_US, RAW_RETENTION
from app.db.shared import RETRY_S
from app.http.connections import OTHER_FILES
from app.http.deadlines import CHANGE_WITHIN_S, READ_WITHIN_S
from app.http.protocol import HEAD_LIMIT, HEAD_WITHIN_S, HEADERS_LIMIT
from app.ingest.bodies.compression import BODY_LIMIT, DECOMPRESSED_LIMIT, GZIP_MEMBERS_LIMIT
from app.ingest.bodies.pieces import READINGS_LIMIT, VALUES_LIMIT
from app.ingest.bodies.room import BODIES_LIMIT
from app.ingest.checks import FUTURE_LIMIT_US
from app.ingest.flush.feed_payload import FRAME_VALUES_LIMIT
from app.ingest.flush.idempotency import KEY_LIMIT
from app.ingest.gateways.statistics import GATEWAYS_PER_KEY
from app.ingest.series.limits import METRICS_PER_SENSOR, SENSORS_PER_KEY, SERIES_PER_KEY
from app.ingest.uploads.lanes import SMALL_UPLOAD_VALUES
from app.ingest.uploads.receipt import REJECTIONS_LISTED
from app.ingest.writer import QUEUE_BYTES as QUEUE_OF_UPLOADS_BYTES
from app.ingest.writer import QUEUE_VALUES, SMALL_PART, UPLOAD_WITHIN_S
from app.live.hub import ALL_QUEUES_BYTES
from app.live.protocol import BAD_MESSAGES_LIMIT, PATTERNS_LIMIT
from app.live.queues.readings import CONFLATED_LIMIT, QUEUE_BYTES, VALUE_BYTES
from app.live.retention import FEED_AGE, FEED_BYTES
from app.live.session import AUTH_TIMEOUT_S
from app.live.wire import FRAMES_LIMIT, FRAMES_PERIOD_S, STRANGER_FRAMES, STRANGER_MESSAGE_BYTES
from app.names import METRIC_NAME_LIMIT, SENSOR_NAME_LIMIT, TAG_LENGTH_LIMIT, TAGS_LIMIT
from app.notify.dispatch.attempts import DEADLINE_S
from app.notify.outbox import DEAD_AGE, SENT_AGE
from app.parameters import NAME_LENGTH
from app.trends.local_days import DAYS_OF_MINUTES_LIMIT
from app.trends.routes import BUCKETS_LIMIT, CSV_PAGE
from tests.docs.documents import read

MIB = 2**20
GATEWAYS = (
    f"| Body as sent | {BODY_LIMIT // MIB} MiB |",
    f"{DECOMPRESSED_LIMIT // MIB} MiB; a gzip body of at most {GZIP_MEMBERS_LIMIT:,} members",
    f"| Readings and values in one body | {READINGS_LIMIT:,} and {VALUES_LIMIT:,};",
    f"| New sensors of one key | {SENSORS_PER_KEY:,} in all;",
    f"| Metrics of one sensor | {METRICS_PER_SENSOR:,}; the sensors of one key have {SERIES_PER_KEY:,} series",
    f"| Gateways of one key | {GATEWAYS_PER_KEY:,};",
    f"the sensor has {METRICS_PER_SENSOR:,} already",
    f"the key have {SERIES_PER_KEY:,} series already",
    f"from {OLDEST_ACCEPTED_US // DAY_US} days ago to {FUTURE_LIMIT_US // MINUTE_US} minutes ahead",
    f"{QUEUE_VALUES:,}, and {QUEUE_OF_UPLOADS_BYTES // MIB} MiB with tags and units; a quarter of that",
    f"a quarter of that in uploads of less than {SMALL_UPLOAD_VALUES:,} values; beyond, 503" if SMALL_PART == 4 else "",
    f"{BODIES_LIMIT // MIB} MiB together; beyond, 503",
    f"The first {REJECTIONS_LISTED} refusals",
    f"| `sensor` | 1 to {SENSOR_NAME_LIMIT} printable characters",
    f"names of 1 to {METRIC_NAME_LIMIT} printable characters",
    f"At most {TAGS_LIMIT}, with names and values of at most {TAG_LENGTH_LIMIT} characters",
    f"the server gives up after {UPLOAD_WITHIN_S:.0f} s",
    f"1 to {KEY_LIMIT} printable characters",
)
LIVE_FEED = (
    f"At most {PATTERNS_LIMIT} each",
    f"{PATTERNS_LIMIT}, of at most {NAME_LENGTH} characters",
    f"When {BAD_MESSAGES_LIMIT} messages within a minute could not be understood",
    f"| 4400 | {BAD_MESSAGES_LIMIT} messages",
    f"within {AUTH_TIMEOUT_S:.0f} seconds",
    f"| {FRAMES_LIMIT} in {FRAMES_PERIOD_S:.0f} seconds; {STRANGER_FRAMES} until the key is accepted |",
    f"1 MiB; {STRANGER_MESSAGE_BYTES // 2**10} KiB until the key is accepted",
    f"Beyond {QUEUE_BYTES // MIB} MiB that wait",
    f"Beyond {CONFLATED_LIMIT:,} waiting values",
    f"at most {ALL_QUEUES_BYTES // MIB} MiB wait",
    f"that waits in mode `latest` as {VALUE_BYTES} bytes",
    f"more than {FRAME_VALUES_LIMIT:,} values",
    f"{FEED_AGE.total_seconds() / 3600:.0f} hour or {FEED_BYTES // 2**30} GiB",
)
OPERATORS = (
    f"| raw readings | {RAW_RETENTION.days} days |",
    f"| minutes | {MINUTE_RETENTION.days} days |",
    f"{SENT_AGE.days} days after they were sent, {DEAD_AGE.days} days after they were given up",
    f"{KEPT_FOR.days} days, at most {KEPT_ROWS:,}",
    f"has no answer after {ANSWER_AT_STOP_S:.0f} seconds",
    f"in time, {READ_WITHIN_S:.0f} s for a read and {CHANGE_WITHIN_S:.0f} s for a change",
    f"within {REVOKED_WITHIN_S:.0f} seconds",
    f"must arrive within {HEAD_WITHIN_S:.0f} seconds",
    f"at most {HEADERS_LIMIT} headers and {HEAD_LIMIT // 2**10} KiB with the address",
    f"may send {STRANGER_FRAMES} frames and messages of {STRANGER_MESSAGE_BYTES // 2**10} KiB",
    f"less {OTHER_FILES}.",
    f"{READS_RUNNING} reads run at a time in each API process and {READS_WAITING} wait, for {READ_WAIT_S:.0f} seconds",
    f"takes the database longer than {READ_TIMEOUT_S:.0f} seconds",
    f"At {QUEUE_VALUES:,} uploads get 503; those of less than {SMALL_UPLOAD_VALUES:,} values at",
    f"values at {QUEUE_VALUES // SMALL_PART:,} in such uploads",
    "could not be delivered within an hour" if DEADLINE_S == 3_600 else "",
    f"may send {DEFAULT_RATE.burst:,} at once and then {DEFAULT_RATE.per_minute:,} a minute through each API process",
    f"at most {HOLD_LIMIT_S:.0f} seconds, and by no other process from {READ_EVERY_S:.0f} second later on",
    f"For {PACED_FOR_S:.0f} seconds more",
    f"longer than {BROKER_DEADLINE_S:.0f} seconds fails at once",
    f"paces destinations, for itself alone. It asks again every {RETRY_S:.0f} s",
)


TRENDS = (
    f"times `points` may be {BUCKETS_LIMIT:,}",
    f"at most {DAYS_OF_MINUTES_LIMIT:,} days over all series",
    f"Minutes are kept for {MINUTE_RETENTION.days} days",
    f"A page of readings has {CSV_PAGE:,} items when `limit` is left out",
)


@pytest.mark.parametrize(
    ("document", "texts"),
    [
        ("docs/gateways.md", GATEWAYS),
        ("docs/live-feed.md", LIVE_FEED),
        ("docs/operators.md", OPERATORS),
        ("docs/trends.md", TRENDS),
    ],
    ids=["gateways", "live-feed", "operators", "trends"],
)
def test_numbers_in_the_document_are_those_of_the_program(document: str, texts: tuple[str, ...]) -> None:
    for text in texts:
        assert text, f"a number in {document} is another now"
        assert text in " ".join(read(document).split()), text
