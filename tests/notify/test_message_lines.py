from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.notify.message import Entry, Link, Message
from app.notify.message_lines import PLAIN, clip, fit, utf16_units, visible, write
from app.notify.message_lines import Lines as MessageLines
from app.rule_texts import format_value

SINCE = datetime(2025, 6, 1, 2, 10, 30, tzinfo=UTC)
UNTIL = datetime(2025, 6, 1, 4, 40, tzinfo=timezone(timedelta(hours=2)))


def cost(lines: MessageLines) -> int:
    return utf16_units(visible(lines))


def freezer(number: int) -> Entry:
    return Entry(level="warning", sensor=f"freezer-{number}", metric="temperature", value=9.25, unit="°C")


def plain(message: Message, limit: int = 4_096, **bounds: int) -> str:
    return "\n\n".join(write(lines, PLAIN) for lines in fit(message, cost, limit, **bounds).blocks())


def test_fit_writes_the_whole_entry_when_there_is_room() -> None:
    entry = Entry(
        level="critical",
        sensor="freezer-3",
        metric="temperature",
        value=-8.5,
        unit="°C",
        condition="above -10",
        since=SINCE,
        note="door left open?",
        links=(Link("Page", "https://t.example/?a=1&b=2"), Link("Runbook", "wiki/cold-room")),
    )
    message = Message(title="Cold room too warm", text="Site A", entries=(entry,), footer="rule cold-room")
    assert plain(message) == (
        "🚨 Cold room too warm\n\n"
        "Site A\n\n"
        "🚨 freezer-3 temperature -8.5 °C, above -10 °C\n"
        "since 2025-06-01 02:10 UTC\n"
        "door left open?\n"
        "Page: https://t.example/?a=1&b=2 · Runbook: wiki/cold-room\n\n"
        "rule cold-room"
    )


def test_fit_writes_both_times_and_the_duration_when_an_entry_is_over() -> None:
    entry = Entry(level="error", sensor="a", metric="co2", since=SINCE, until=UNTIL, over=True)
    message = Message(title="Over", entries=(entry,))
    assert plain(message) == "✅ Over\n\n✅ a co2\nfrom 2025-06-01 02:10 to 02:40 UTC (29 min)"


def test_fit_writes_the_end_when_the_start_is_not_known() -> None:
    message = Message(title="Over", entries=(Entry(level="info", sensor="a", metric="b", until=UNTIL),))
    assert plain(message) == "ℹ️ Over\n\nℹ️ a b\nuntil 2025-06-01 02:40 UTC"


def test_fit_drops_whole_entries_and_counts_them_when_they_do_not_fit() -> None:
    message = Message(title="Too warm", entries=tuple(freezer(n) for n in range(50)), footer="end")
    text = plain(message, limit=200)
    assert text == (
        "⚠️ Too warm\n\n"
        "⚠️ freezer-0 temperature 9.25 °C\n\n"
        "⚠️ freezer-1 temperature 9.25 °C\n\n"
        "⚠️ freezer-2 temperature 9.25 °C\n\n"
        "⚠️ freezer-3 temperature 9.25 °C\n\n"
        "⚠️ freezer-4 temperature 9.25 °C\n\n"
        "+45 more: 45 warning\n\n"
        "end"
    )


def test_fit_drops_entries_when_there_are_more_than_the_service_takes() -> None:
    message = Message(title="Too warm", entries=tuple(freezer(n) for n in range(50)))
    fitted = fit(message, cost, 4_096, max_entries=46)
    assert len(fitted.entries) == 46
    assert visible(fitted.more) == "+4 more: 4 warning"


def test_fit_leaves_out_links_then_the_note_when_one_entry_is_too_long() -> None:
    entry = Entry(level="info", sensor="a", metric="b", note="n" * 30, links=(Link("l" * 30, "https://x.example"),))
    message = Message(title="t", entries=(entry,))
    assert plain(message, entry_limit=45) == f"ℹ️ t\n\nℹ️ a b\n{'n' * 30}"
    assert plain(message, entry_limit=20) == "ℹ️ t\n\nℹ️ a b"


def test_fit_keeps_one_entry_when_every_part_is_as_long_as_it_can_be() -> None:
    long = "&" * 100_000
    entry = Entry(level="info", sensor=long, metric=long, value=1.0, unit=long, threshold=long, since=SINCE, note=long)
    message = Message(title=long, text=long, footer=long, entries=(entry,) * 3)
    escaped = fit(message, lambda lines: 5 * cost(lines), 10_000, entry_limit=3_000)
    assert len(escaped.entries) >= 1


def test_fit_leaves_out_a_link_when_its_address_is_too_long_to_keep_whole() -> None:
    links = (Link("long", "https://x.example/" + "a" * 1_000), Link("short", "https://x.example/"))
    message = Message(title="t", entries=(Entry(level="info", sensor="a", metric="b", links=links),))
    assert plain(message) == "ℹ️ t\n\nℹ️ a b\nshort: https://x.example/"


@pytest.mark.parametrize(
    ("text", "units", "clipped"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("🚨🚨", 4, "🚨🚨"),
        ("🚨🚨🚨", 4, "🚨…"),
        ("🚨🚨🚨", 5, "🚨🚨…"),
        ("ab cd", 4, "ab…"),
    ],
)
def test_clip_counts_utf16_units_and_splits_no_character(text: str, units: int, clipped: str) -> None:
    assert clip(text, units) == clipped
    assert utf16_units(clipped) <= units


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (9.0, "9"),
        (9.25, "9.25"),
        (0.1 + 0.2, "0.3"),
        (-12.3456, "-12.346"),
        (100.0, "100"),
        (0.00012, "0.00012"),
        (-0.0001, "-0.0001"),
        (0.000001, "0.000001"),
        (0.0000009, "9e-7"),
        (123456789.5, "123456789.5"),
        (4294967295.0, "4294967295"),
        (1234567890123.0, "1234567890000"),
        (1.5e12, "1500000000000"),
        (999999999999999.0, "1000000000000000"),
        (1e15, "1e15"),
        (-1.2345678901e20, "-1.23456789e20"),
    ],
)
def test_format_value_writes_plain_digits_up_to_ten_significant_ones(value: float, written: str) -> None:
    assert format_value(value) == written


@pytest.mark.parametrize(
    ("value", "limits", "written"),
    [
        (8.0004, (8.0,), "8.0004"),
        (7.99996, (8.0,), "7.99996"),
        (8.25, (8.0,), "8.25"),
        (8.0, (8.0,), "8"),
        (8.00000000001, (8.0,), "8.00000000001"),
        (0.1 + 0.2, (0.3,), "0.30000000000000004"),
        (8.5001, (2.0, 8.5), "8.5001"),
        (-10.00012, (-10.0,), "-10.0001"),
    ],
)
def test_format_value_writes_as_many_digits_as_tell_it_from_its_limits(
    value: float, limits: tuple[float, ...], written: str
) -> None:
    assert format_value(value, limits) == written
