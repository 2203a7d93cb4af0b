"""Uploads as the routes make them, for tests that go in behind HTTP."""

from collections.abc import Mapping

from app.auth.keys import ApiKey, Limits
from app.ingest.upload import Rejected, Upload
from app.model import Reading, SeriesId, Tags

#: 2026-01-31T08:00:00Z
T0 = 1_769_846_400_000_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KEY = ApiKey("API_KEY", frozenset({"ingest"}))


def key(label: str, sensors: int | None = None) -> ApiKey:
    """Make a key that may bring so many sensors."""
    return ApiKey(label, frozenset({"ingest"}), Limits(sensors=sensors))


def reading(sensor: str, time_us: int = T0, tags: Tags | None = None, **values: float) -> Reading:
    """Make a reading; without values, one of temperature."""
    return Reading(sensor, time_us, {**values} or {"temperature": 21.5}, tags)


def upload(*readings: Reading, received_us: int = T0, gateway: str | None = None, api_key: ApiKey = KEY) -> Upload:
    """Make an upload of these readings, none of them rejected."""
    return Upload(list(readings), Rejected(), received_us, api_key, gateway)


def series_ids(*names: tuple[str, str]) -> Mapping[str, Mapping[str, SeriesId]]:
    """Number series from 1 as a registry would hold them."""
    held: dict[str, dict[str, SeriesId]] = {}
    for number, (sensor, metric) in enumerate(names, start=1):
        held.setdefault(sensor, {})[metric] = SeriesId(number)
    return held
