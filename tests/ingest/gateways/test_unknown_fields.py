from structlog.testing import capture_logs

from app.ingest.gateways.unknown_fields import UnknownFields
from app.ingest.uploads.upload import Upload
from app.metrics import Metrics
from tests.ingest.uploads import reading, upload


def sent(gateway: str, *fields: str) -> Upload:
    made = upload(reading("a"), gateway=gateway)
    for name in fields:
        made.rejected.add_unknown_field(name)
    return made


def test_unknown_fields_are_logged_once_for_each_gateway_and_counted_each_time() -> None:
    metrics = Metrics()
    fields = UnknownFields(metrics)
    with capture_logs() as lines:
        fields.note(sent("gw-1", "b", "a"))
        fields.note(sent("gw-1", "a", "a"))
        fields.note(sent("gw-1", "a", "c"))
        fields.note(sent("gw-2", "a"))
        fields.note(sent("gw-2"))
    assert [(line["gateway"], line["fields"]) for line in lines] == [
        ("gw-1", ["a", "b"]),
        ("gw-1", ["c"]),
        ("gw-2", ["a"]),
    ]
    assert "tidegauge_fields_ignored_total 7.0" in metrics.render().decode()
