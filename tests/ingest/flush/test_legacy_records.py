"""Records of the replaced server: one for each new reading with its three metrics."""

from types import SimpleNamespace
from typing import cast

from app.ingest.flush.batch import Batch, NewReadings
from app.ingest.flush.legacy_records import columns_of, find_records
from app.ingest.series.registry import SeriesRegistry
from app.model import LEGACY_METRICS
from tests.ingest.uploads import MINUTE, T0, reading, series_ids, upload

CLIMATE = {"temperature": 20.5, "humidity": 60.0, "pressure": 1013.0}
#: The sensor `old` is called `new` now.
REGISTRY = cast(
    "SeriesRegistry", SimpleNamespace(sensors={"old": SimpleNamespace(name="new"), "pi": SimpleNamespace(name="pi")})
)


def test_a_record_has_the_present_name_and_belongs_to_the_first_upload_that_brought_it() -> None:
    batch = Batch(
        [
            upload(reading("pi", T0, temperature=1.0, humidity=2.0)),
            upload(reading("old", T0 + MINUTE, None, **CLIMATE)),
            upload(reading("old", T0 + MINUTE, None, **CLIMATE)),
        ],
        series_ids(*((sensor, metric) for sensor in ("pi", "old") for metric in LEGACY_METRICS)),
    )
    grouped = [(T0, "pi", {"temperature": 1.0, "humidity": 2.0}), (T0 + MINUTE, "new", {**CLIMATE, "co2": 400.0})]
    records = find_records(NewReadings(batch, batch.samples), grouped, REGISTRY)
    (found,) = records
    assert (found.upload_number, found.record.sensor, found.record.time_us) == (1, "new", T0 + MINUTE)
    assert columns_of(records) == [["new"], [T0 + MINUTE], [20.5], [60.0], [1013.0], [""]]


def test_no_record_has_six_empty_columns() -> None:
    assert columns_of([]) == [[], [], [], [], [], []]
