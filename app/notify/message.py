"""An alert message: its content, its lines of text, and their shortening to what a service accepts.

Each channel has its own markup.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from app.model import LevelName
from app.rule_texts import format_value


class LevelStyle(msgspec.Struct, frozen=True):
    """The emoji and colour of a level; a higher priority is more severe."""

    emoji: str
    colour: str
    priority: int


LEVELS: Final[dict[LevelName, LevelStyle]] = {
    "info": LevelStyle("ℹ️", "#36a64f", 1),
    "warning": LevelStyle("⚠️", "#ff9500", 2),
    "error": LevelStyle("❌", "#ff0000", 3),
    "critical": LevelStyle("🚨", "#8b0000", 4),
    "disaster": LevelStyle("💀", "#4b0082", 5),
}
#: The style of an entry that is over, whatever its level was.
OVER: Final = LevelStyle("✅", "#36a64f", 0)

# Bounds in UTF-16 units. With them a title, a text, a footer and one entry without links fit every service, even if
# each character is escaped as five.
TITLE_UNITS: Final = 200
NAME_UNITS: Final = 100
TEXT_UNITS: Final = 500
#: A link with a longer address is left out, because a cut address would not work.
URL_UNITS: Final = 1_000


class Link(msgspec.Struct, frozen=True):
    """A page, dashboard or runbook to open."""

    label: str
    url: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an alert message that is about one series."""

    level: LevelName
    sensor: str
    metric: str
    value: float | None = None
    unit: str = ""
    #: The condition in words, without the unit: "above 8".
    threshold: str = ""
    since: datetime | None = None
    until: datetime | None = None
    #: Whether to show the entry in the style `OVER`, whatever its level.
    over: bool = False
    #: A separate line: the rule's message, "no data since 03:00", the reason of a retraction.
    note: str = ""
    links: tuple[Link, ...] = ()

    @property
    def style(self) -> LevelStyle:
        """Return the emoji and colour."""
        return OVER if self.over else LEVELS[self.level]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An alert message before it is rendered for a service."""

    title: str
    #: Most important first: the last ones are dropped when not all fit.
    entries: tuple[Entry, ...] = ()
    text: str = ""
    footer: str = ""
    #: None: the level of the most severe entry that is not over.
    level: LevelName | None = None
    #: Whether to deliver the message without sound, where the service supports this.
    silent: bool = False
    #: The `message_ref` of the message to reply to, where the service supports replies.
    reply_to: str | None = None

    @property
    def style(self) -> LevelStyle:
        """Return the emoji and colour of the whole message."""
        if self.level is not None:
            return LEVELS[self.level]
        styles = [entry.style for entry in self.entries]
        return max(styles, key=lambda style: style.priority, default=LEVELS["info"])


class RenderedMessage(msgspec.Struct, frozen=True):
    """A message as a service accepts it; it holds only JSON values, so that a stored message can be sent again."""

    body: dict[str, Any]
    #: Sent once in place of `body` when the service cannot parse the markup.
    fallback: dict[str, Any] | None = None


class Span(NamedTuple):
    """A piece of a line before markup."""

    text: str
    bold: bool = False
    url: str | None = None


Line = tuple[Span, ...]
Lines = tuple[Line, ...]


class Markup(NamedTuple):
    """The markup of a service. The texts passed to `bold` and `link` are escaped already; the address is not."""

    escape: Callable[[str], str]
    bold: Callable[[str], str]
    link: Callable[[str, str], str]


PLAIN: Final = Markup(escape=str, bold=str, link=lambda label, url: f"{label}: {url}")


class Fitted(NamedTuple):
    """The parts of a message that fit a service; no part is cut in the middle."""

    title: Line
    text: Lines
    entries: tuple[tuple[Entry, Lines], ...]
    #: A line such as "+3 more"; empty if nothing was dropped.
    more: Lines
    footer: Lines

    def blocks(self) -> Iterator[Lines]:
        """Return the parts that are not empty, in order."""
        middle = (lines for _, lines in self.entries)
        return (lines for lines in ((self.title,), self.text, *middle, self.more, self.footer) if lines)


def fit(
    message: Message,
    cost: Callable[[Lines], int],
    limit: int,
    *,
    entry_limit: int | None = None,
    max_entries: int | None = None,
) -> Fitted:
    """Return the message with as many of its first entries as fit into `limit`.

    `cost` returns how much of `limit` some lines use. An entry that costs more than `entry_limit` is kept without its
    links, or also without its note; so is the first entry if it does not fit otherwise.
    """
    title: Line = (Span(f"{message.style.emoji} "), Span(clip(message.title, TITLE_UNITS), bold=True))
    text, footer = _paragraph(message.text), _paragraph(message.footer)
    left = limit - sum(cost(lines) for lines in ((title,), text, _more(len(message.entries)), footer))
    kept: list[tuple[Entry, Lines]] = []
    for entry in message.entries[:max_entries]:
        # Only the first entry is shortened to what is left, so that a message has at least one entry.
        room = limit if kept else left
        lines = _shorten(entry, cost, room if entry_limit is None else min(room, entry_limit))
        left -= cost(lines)
        if left < 0:
            break
        kept.append((entry, lines))
    return Fitted(title, text, tuple(kept), _more(len(message.entries) - len(kept)), footer)


def write(lines: Lines, markup: Markup) -> str:
    """Return the lines as text with markup; their texts are escaped."""
    return "\n".join("".join(_write_span(span, markup) for span in line) for line in lines)


def visible(lines: Lines) -> str:
    """Return the lines as a reader sees them: without markup."""
    return "\n".join("".join(span.text for span in line) for line in lines)


def utf16_units(text: str) -> int:
    """Return the length as Telegram counts it: characters beyond the basic plane, such as most emoji, count as two."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def clip(text: str, units: int) -> str:
    """Cut a text to at most `units` UTF-16 units; a cut text ends with an ellipsis, and no character is split."""
    if utf16_units(text) <= units:
        return text
    kept = text.encode("utf-16-le", "surrogatepass")[: 2 * (units - 1)]
    return kept.decode("utf-16-le", "ignore").rstrip() + "…"


def _write_span(span: Span, markup: Markup) -> str:
    text = markup.escape(span.text)
    if span.url is not None:
        return markup.link(text, span.url)
    return markup.bold(text) if span.bold and text else text


def _shorten(entry: Entry, cost: Callable[[Lines], int], limit: int) -> Lines:
    """Return the entry's lines without links, or also without the note, if they cost more than `limit` otherwise."""
    head, note, links = _head(entry), _paragraph(entry.note), _links(entry.links)
    for lines in (head + note + links, head + note):
        if cost(lines) <= limit:
            return lines
    return head


def _head(entry: Entry) -> Lines:
    first = (
        Span(f"{entry.style.emoji} "),
        Span(clip(entry.sensor, NAME_UNITS), bold=True),
        Span(f" {clip(entry.metric, NAME_UNITS)}{_measured(entry)}"),
    )
    times = _times(entry)
    return (first, (Span(times),)) if times else (first,)


def _measured(entry: Entry) -> str:
    unit = f" {clip(entry.unit, NAME_UNITS)}" if entry.unit else ""
    value = "" if entry.value is None else f": {format_value(entry.value)}{unit}"
    threshold = f" ({clip(entry.threshold, NAME_UNITS)}{unit})" if entry.threshold else ""
    return value + threshold


def _times(entry: Entry) -> str:
    match entry.since, entry.until:
        case None, None:
            return ""
        case datetime() as since, None:
            return f"since {_minute(since)}"
        case None, datetime() as until:
            return f"until {_minute(until)}"
        case datetime() as since, datetime() as until:
            return f"from {_minute(since)} to {_minute(until)}"
        case _:
            raise TypeError("since and until are datetimes")


def _minute(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _links(links: tuple[Link, ...]) -> Lines:
    """Return a line of links; an address that is not http(s) is written as text, because Telegram would drop it."""
    spans: list[Span] = []
    for link in links:
        label = clip(link.label, NAME_UNITS)
        if not link.url.startswith(("http://", "https://")):
            spans += (Span(" · "), Span(clip(f"{label}: {link.url}", NAME_UNITS)))
        elif utf16_units(link.url) <= URL_UNITS:
            spans += (Span(" · "), Span(label, url=link.url))
    return (tuple(spans[1:]),) if spans else ()


def _paragraph(text: str) -> Lines:
    return ((Span(clip(text, TEXT_UNITS)),),) if text else ()


def _more(count: int) -> Lines:
    return ((Span(f"+{count} more"),),) if count else ()
