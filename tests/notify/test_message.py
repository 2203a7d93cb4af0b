"""The content of messages: levels and styles."""

from app.notify.message import LEVELS, Entry, Message


def test_levels_have_the_emoji_and_colours_of_the_replaced_broker() -> None:
    looks = [(name, style.emoji, style.colour, style.priority) for name, style in LEVELS.items()]
    assert looks == [
        ("info", "ℹ️", "#36a64f", 1),
        ("warning", "⚠️", "#ff9500", 2),
        ("error", "❌", "#ff0000", 3),
        ("critical", "🚨", "#8b0000", 4),
        ("disaster", "💀", "#4b0082", 5),
    ]


def test_style_is_that_of_the_most_severe_entry_that_is_not_over() -> None:
    entries = (
        Entry(level="warning", sensor="a", metric="x"),
        Entry(level="disaster", sensor="b", metric="x", over=True),
        Entry(level="error", sensor="c", metric="x"),
    )
    assert Message(title="t", entries=entries).style.emoji == "❌"
    assert Message(title="t", entries=entries[1:2]).style.emoji == "✅"
    assert Message(title="t", entries=entries, level="critical").style.emoji == "🚨"
    assert Message(title="t").style.emoji == "ℹ️"
