from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.local_times import format_span, format_time, format_times, server_zone

#: 02:10 in Berlin.
SUMMER = datetime(2026, 6, 1, 0, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("tz", "zone"), [("Asia/Kathmandu", "Asia/Kathmandu"), (":Europe/Berlin", "Europe/Berlin"), ("nowhere", "UTC")]
)
def test_server_zone_is_that_of_tz_when_it_has_a_known_name(tz: str, zone: str, tmp_path: Path) -> None:
    assert server_zone(tz, tmp_path / "localtime") == zone


def test_server_zone_is_that_of_localtime_when_tz_is_not_set(tmp_path: Path) -> None:
    zones = tmp_path / "zoneinfo" / "America"
    zones.mkdir(parents=True)
    (zones / "Sao_Paulo").touch()
    (tmp_path / "localtime").symlink_to(zones / "Sao_Paulo")
    assert server_zone(None, tmp_path / "localtime") == "America/Sao_Paulo"


@pytest.mark.parametrize(
    ("zone", "at", "text"),
    [
        ("Europe/Berlin", SUMMER, "02:10 CEST"),
        ("Europe/Berlin", None, "2026-06-01 02:10 CEST"),
        # In Berlin it is the next day already, in Sao Paulo not yet.
        ("Europe/Berlin", datetime(2026, 5, 31, 12, tzinfo=UTC), "2026-06-01 02:10 CEST"),
        ("America/Sao_Paulo", datetime(2026, 5, 31, 12, tzinfo=UTC), "21:10 UTC-03"),
        ("nowhere", SUMMER, "00:10 UTC"),
    ],
)
def test_time_has_a_date_when_it_is_of_another_local_day(zone: str, at: datetime | None, text: str) -> None:
    assert format_time(SUMMER, zone, at) == text


@pytest.mark.parametrize(
    ("since", "until", "text"),
    [
        (SUMMER, datetime(2026, 6, 1, 0, 40, tzinfo=UTC), "2026-06-01 02:10 to 02:40 CEST"),
        (SUMMER, datetime(2026, 6, 2, 0, 40, tzinfo=UTC), "2026-06-01 02:10 to 2026-06-02 02:40 CEST"),
        # The clocks go back at 01:00 UTC.
        (
            datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
            datetime(2026, 10, 25, 1, 30, tzinfo=UTC),
            "2026-10-25 02:30 CEST to 2026-10-25 02:30 CET",
        ),
    ],
)
def test_span_names_the_zone_twice_only_when_the_clocks_were_changed(
    since: datetime, until: datetime, text: str
) -> None:
    assert format_times(since, until, "Europe/Berlin", None) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7_199, "119 min"),
        (7_500, "2 h 05 min"),
        (172_799, "47 h 59 min"),
        (172_800, "2 d 0 h"),
    ],
)
def test_duration_has_at_most_two_units(seconds: int, text: str) -> None:
    assert format_span(seconds * 1_000_000) == text
