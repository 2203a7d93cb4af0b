"""The content of an alert message, before and after it is rendered for a service."""

from datetime import datetime
from typing import Any, Final

import msgspec

from app.model import LevelName


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


class Link(msgspec.Struct, frozen=True):
    """A page, dashboard or runbook to open."""

    label: str
    url: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an alert message that is about one series."""

    level: LevelName
    sensor: str
    metric: str
    rule: str = ""
    gateway: str = ""
    #: What the rule compares: now, when the alert fired, and farthest past the limit.
    value: float | None = None
    fired_value: float | None = None
    peak: float | None = None
    unit: str = ""
    #: How `value` comes from readings, such as "rate 10m"; empty for the readings themselves.
    compared: str = ""
    #: The numbers of the condition, without the unit: "8", "2 to 8.5".
    threshold: str = ""
    #: The condition in words, without the unit: "above 8".
    condition: str = ""
    #: The numbers of the condition.
    limits: tuple[float, ...] = ()
    #: Whether `value` is past the limit.
    is_past: bool = True
    since: datetime | None = None
    until: datetime | None = None
    #: Whether to show the entry in the style `OVER`, whatever its level.
    over: bool = False
    #: A separate line: the rule's message, "no data since 03:00", the reason of a retraction.
    note: str = ""
    links: tuple[Link, ...] = ()
    #: The ids of the alerts that the entry is about: several where a series fired again and again.
    alerts: tuple[int, ...] = ()

    @property
    def style(self) -> LevelStyle:
        """Return the emoji and colour."""
        return OVER if self.over else LEVELS[self.level]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An alert message before it is rendered for a service."""

    title: str
    #: One for each series, the most important first: the last ones are dropped when not all fit.
    entries: tuple[Entry, ...] = ()
    #: One for each alert, for programs that read the message; empty: as `entries`.
    every_entry: tuple[Entry, ...] = ()
    text: str = ""
    footer: str = ""
    #: None: the level of the most severe entry that is not over.
    level: LevelName | None = None
    #: Names of the rule and of what the group has in common; empty for messages without a rule.
    rule: str = ""
    group: str = ""
    #: The time zone of the times, and when the message was written: times of the same day have no date.
    zone: str = "UTC"
    at: datetime | None = None
    #: The address of the alert on the page; None: it is not known.
    page: str | None = None
    #: What messages about the same alerts have in common: the group's key; empty for messages without a rule.
    group_key: str = ""
    #: Whether nothing of the group is left that this channel was told fires.
    is_end: bool = False
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
