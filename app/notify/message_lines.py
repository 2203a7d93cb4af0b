"""The lines of text of a message: their markup, and their shortening to what a service accepts."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple

from app.clock import to_us
from app.local_times import format_span, format_time, format_times
from app.model import LEVEL_NAMES
from app.notify.message import Entry, Link, Message
from app.rule_texts import format_value

# Bounds in UTF-16 units. With them a title, a text, a footer and one entry without links fit every service, even if
# each character is escaped as five.
TITLE_UNITS: Final = 200
NAME_UNITS: Final = 100
TEXT_UNITS: Final = 500
#: Largest number of groups that are listed; further ones are only counted.
MOST_GROUPS: Final = 5
#: A link with a longer address is left out, because a cut address would not work.
URL_UNITS: Final = 1_000


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


def markdown_link(label: str, url: str) -> str:
    """Return a link in Markdown; in the address, what would end it is encoded."""
    return f"[{label}]({url.replace('(', '%28').replace(')', '%29').replace(' ', '%20')})"


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
    left = limit - sum(cost(lines) for lines in ((title,), text, _room_for_more(message.entries), footer))
    kept: list[tuple[Entry, Lines]] = []
    for entry in message.entries[:max_entries]:
        # Only the first entry is shortened to what is left, so that a message has at least one entry.
        room = limit if kept else left
        lines = _shorten(message, entry, cost, room if entry_limit is None else min(room, entry_limit))
        left -= cost(lines)
        if left < 0:
            break
        kept.append((entry, lines))
    return Fitted(title, text, tuple(kept), _more(message.entries[len(kept) :]), footer)


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


def _shorten(message: Message, entry: Entry, cost: Callable[[Lines], int], limit: int) -> Lines:
    """Return the entry's lines without links, or also without the note, if they cost more than `limit` otherwise."""
    head, note, links = _head(entry, message), _paragraph(entry.note), _links(entry.links)
    for lines in (head + note + links, head + note):
        if cost(lines) <= limit:
            return lines
    return head


def _head(entry: Entry, message: Message) -> Lines:
    first = (
        Span(f"{entry.style.emoji} "),
        Span(clip(entry.sensor, NAME_UNITS), bold=True),
        Span(f"{_measured(entry)}"),
    )
    details = " · ".join(part for part in (_times(entry, message), *_further_values(entry)) if part)
    return (first, (Span(details),)) if details else (first,)


def _measured(entry: Entry) -> str:
    """Return the metric, a value that is past the limit, and the limit: ` temperature 8.0004 °C, above 8 °C`."""
    metric = f" {clip(entry.metric, NAME_UNITS)}" if entry.metric else ""
    compared = f" ({entry.compared})" if entry.compared else ""
    shown = _shown_value(entry)
    peaked = entry.over or (entry.peak is not None and not entry.is_past)
    value = "" if shown is None else f"{' peaked at' if peaked else ''} {_with_unit(entry, shown)}"
    words = entry.condition or entry.threshold
    condition = f", {clip(words, NAME_UNITS)}{_unit(entry)}" if words else ""
    return f"{metric}{compared}{value}{condition}"


def _shown_value(entry: Entry) -> float | None:
    """Return the value that shows the condition: the present one while it is past the limit, else the peak."""
    if entry.over:
        return entry.peak
    past = entry.fired_value if entry.peak is None else entry.peak
    return entry.value if entry.is_past or past is None else past


def _further_values(entry: Entry) -> Iterator[str]:
    """Yield the values that the first line does not show."""
    shown = {text for text in (_text_of(entry, _shown_value(entry)),) if text}
    names = {"fired at": entry.fired_value, "peak": entry.peak, "now": None if entry.over else entry.value}
    for name, value in names.items():
        text = _text_of(entry, value)
        if text and text not in shown:
            shown.add(text)
            yield f"{name} {text}"


def _text_of(entry: Entry, value: float | None) -> str:
    return "" if value is None else _with_unit(entry, value)


def _with_unit(entry: Entry, value: float) -> str:
    return f"{format_value(value, entry.limits)}{_unit(entry)}"


def _unit(entry: Entry) -> str:
    return f" {clip(entry.unit, NAME_UNITS)}" if entry.unit else ""


def _times(entry: Entry, message: Message) -> str:
    match entry.since, entry.until:
        case None, None:
            return ""
        case datetime() as since, None:
            return f"since {format_time(since, message.zone, message.at)}"
        case None, datetime() as until:
            return f"until {format_time(until, message.zone, message.at)}"
        case datetime() as since, datetime() as until:
            span = format_times(since, until, message.zone, message.at)
            return f"from {span} ({format_span(to_us(until) - to_us(since))})"
        case _:
            raise TypeError("since and until are datetimes")


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


def _room_for_more(entries: tuple[Entry, ...]) -> Lines:
    """Return a line that is as long as any that counts some of the entries."""
    several = len({entry.gateway for entry in entries}) > 1
    return ((Span("+" * (MOST_GROUPS * (NAME_UNITS // 2 + 10) + 120)),),) if several else _more(entries)


def _more(dropped: Iterable[Entry]) -> Lines:
    """Return the line that counts entries, the worst first, and by gateway where there are several."""
    entries = list(dropped)
    if not entries:
        return ()
    by_level = Counter("over" if entry.over else entry.level for entry in entries)
    counts = [f"{by_level[name]} {name}" for name in (*reversed(LEVEL_NAMES), "over") if by_level[name]]
    by_gateway = Counter(entry.gateway or "no gateway" for entry in entries)
    groups = [f"{clip(name, NAME_UNITS // 2)} {count}" for name, count in by_gateway.most_common(MOST_GROUPS)]
    rest = len(by_gateway) - len(groups)
    by_group = f" ({', '.join(groups)}{f', {rest} others' if rest else ''})" if len(by_gateway) > 1 else ""
    return ((Span(f"+{len(entries)} more: {', '.join(counts)}{by_group}"),),)
