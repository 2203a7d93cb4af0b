"""Query parameters: accepted values, refused values, and any other text."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidRequestError
from app.trends.parameters import parse_range, parse_time, parse_zone

NOW = datetime(2026, 1, 31, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T08:00:00Z",
        "2026-01-31t08:00:00z",
        "2026-01-31 08:00:00Z",
        "2026-01-31T10:00:00+02:00",
        "2026-01-31T10:00:00 02:00",
        "2026-01-31 10:00:00 02:00",
        "2026-01-31T05:00:00-03:00",
        "2026-01-31T08:00:00.000000Z",
        "1769846400000",
        "2026-01-31T08:00Z",
        "2026-01-31T08:00:00 Z",
        "2026-01-31T10:00:00+02",
        "2026-01-31T08:00:00,000Z",
        "2026-01-31T07:59:60Z",
    ],
)
def test_time_is_the_same_in_utc_when_written_in_any_accepted_format(text: str) -> None:
    parsed = parse_time("from", text, NOW)
    assert parsed == NOW
    assert parsed.tzinfo is UTC


def test_time_keeps_microseconds_when_it_has_a_fraction() -> None:
    assert parse_time("from", "2026-01-31T08:00:00.000001Z", NOW) == NOW + timedelta(microseconds=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Now",
        "-",
        "-h",
        "yesterday",
        "--5",
        "5-",
        "²",
        "٣",
        "1e3",
        "1.5",
        "9" * 5_000,
        "-99999999999999",
        "-24",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
    ],
)
def test_time_is_refused_with_name_value_and_remedy_when_it_is_invalid(text: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        parse_time("from", text, NOW)
    assert str(refusal.value) == (
        f"from is {text!r:.60}; send RFC 3339 with a zone, such as 2026-01-31T08:00:00Z, milliseconds since 1970, "
        "now, or a time before now, such as -24h"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-01-31", "it lacks the time of day"),
        ("2026-01-31T08:00:00", "it has no zone"),
        ("2026-02-30T08:00:00Z", "there is no day 2026-02-30"),
        ("2026-13-01T08:00:00Z", "its month is 13"),
    ],
)
def test_time_is_refused_with_what_is_wrong_with_it(text: str, why: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        parse_time("to", text, NOW)
    assert str(refusal.value).startswith(f"to is {text!r}: {why}; send RFC 3339 with a zone, such as ")


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("1769846400", "seconds"),
        ("1769846400000000", "microseconds"),
        ("1769846400000000000", "nanoseconds"),
    ],
)
def test_number_is_refused_with_the_unit_that_its_size_tells(text: str, unit: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        parse_time("from", text, NOW)
    assert str(refusal.value) == f"from is {text}, which looks like {unit}; send milliseconds since 1970"


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("now", timedelta()),
        ("-24h", timedelta(hours=24)),
        ("-7d", timedelta(days=7)),
        ("-90m", timedelta(minutes=90)),
        ("-1h30m", timedelta(minutes=90)),
        ("-1.5s", timedelta(seconds=1.5)),
        ("-2w", timedelta(days=14)),
    ],
)
def test_time_is_counted_back_from_now_when_it_is_a_duration(text: str, ago: timedelta) -> None:
    assert parse_time("from", text, NOW) == NOW - ago


_UNITS = "(a number and a unit, ms, s, m, h, d or w, such as 10m or 1h30m)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("24h", "to is '24h'; times before now begin with a minus: \"-24h\""),
        ("-24x", f"to is '-24x': \"24x\" is not a duration {_UNITS}"),
        ("-24 hours", f'to is \'-24 hours\': "24 hours" is not a duration; did you mean "24h"? {_UNITS}'),
        ("-4000d", "to is '-4000d': \"4000d\" is longer than ten years"),
    ],
)
def test_time_is_refused_with_a_remedy_when_its_duration_is_wrong(text: str, message: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        parse_time("to", text, NOW)
    assert str(refusal.value) == message


def test_range_is_relative_to_one_moment_when_both_ends_are_durations() -> None:
    assert parse_range("-24h", "-12h", NOW) == (NOW - timedelta(hours=24), NOW - timedelta(hours=12))


def test_zone_is_found_by_its_name_when_it_exists() -> None:
    assert parse_zone("Europe/Berlin").key == "Europe/Berlin"
    assert parse_zone("Etc/GMT+5").key == parse_zone("Etc/GMT 5").key == "Etc/GMT+5"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Europe/Berln", '; did you mean "Europe/Berlin"?'),
        ("europe/berlin", '; did you mean "Europe/Berlin"?'),
        ("/etc/passwd", ""),
        ("../../etc/passwd", ""),
        ("", ""),
        ("Europe", ""),
    ],
)
def test_zone_is_refused_with_a_hint_when_it_is_unknown(text: str, hint: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        parse_zone(text)
    assert str(refusal.value).partition("; did")[0] == (
        f"tz is {text!r:.60}; send a name of the IANA time zone database, such as Europe/Berlin"
    )
    assert hint in str(refusal.value)


@settings(deadline=None)
@given(st.text() | st.from_regex(r"-?[0-9T:.+Z ²-]{0,40}", fullmatch=True))
def test_time_is_parsed_or_refused_when_text_is_anything(text: str) -> None:
    with suppress(InvalidRequestError):
        assert parse_time("to", text, NOW).tzinfo is UTC


@settings(deadline=None)
@given(st.timedeltas(-timedelta(days=700_000), timedelta(days=2_000_000)), st.integers(-23 * 60, 23 * 60))
def test_time_is_unchanged_when_written_as_rfc_3339_and_parsed(since: timedelta, offset_minutes: int) -> None:
    moment = (NOW + since).astimezone(timezone(timedelta(minutes=offset_minutes)))
    assert parse_time("from", moment.isoformat(), NOW) == moment


def test_range_is_the_last_day_when_nothing_is_given() -> None:
    assert parse_range(None, None, NOW) == (datetime(2026, 1, 30, 8, tzinfo=UTC), NOW)


def test_range_begins_a_day_before_its_end_when_only_the_end_is_given() -> None:
    assert parse_range(None, "2026-01-02T00:00:00Z", NOW) == (
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 2, tzinfo=UTC),
    )


def test_range_ends_now_when_only_the_start_is_given() -> None:
    assert parse_range("2026-01-02T00:00:00Z", None, NOW) == (datetime(2026, 1, 2, tzinfo=UTC), NOW)


@pytest.mark.parametrize(
    ("from_", "to"),
    [
        ("2026-01-31T08:00:00Z", None),
        ("2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("2026-01-03T00:00:00Z", "2026-01-02T00:00:00Z"),
        (None, "0001-01-01T00:00:00Z"),
    ],
)
def test_range_is_refused_when_it_is_empty(from_: str | None, to: str | None) -> None:
    with pytest.raises(InvalidRequestError, match=r"^from is .* and to is .*; from must be earlier$"):
        parse_range(from_, to, NOW)
