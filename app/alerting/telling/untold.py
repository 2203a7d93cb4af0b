"""Episodes about which a message may still be needed, and the silences that may hold it back."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from app.alerting.episodes.reasons import RETRACTED
from app.globs import compile_glob
from app.model import Tags, severity

#: (channel, group key)
Group = tuple[str, str]


class UntoldEpisode(msgspec.Struct, frozen=True):
    """An episode about which a message may still be needed; times in microseconds since 1970."""

    id: int
    rule: str
    series_id: int | None
    gateway: str | None
    kind: str
    started_us: int
    fired_us: int
    resolved_us: int | None
    level: str
    steps: Any
    #: The condition of the level: its keyword, and its number or [low, high].
    condition: str | None
    threshold: Any
    #: What the rule compared when it fired, and farthest past the limit.
    fired_value: float | None
    peak: float | None
    reason: str | None
    merged_into: int | None
    first_known_us: int
    acked_by: str | None
    acked_level: str | None
    revision: int
    sensor: str | None
    tags: Tags | None
    metric: str | None
    unit: str | None
    last_us: int | None
    last_value: float | None
    received_us: int | None
    #: Only history of the series was imported.
    only_imported: bool
    #: A message about it is being sent. If it is refused, what it told is taken back.
    is_being_sent: bool
    #: Closed by a person, at this level.
    closed_us: int | None = None
    closed_by: str | None = None
    closed_note: str | None = None
    closed_level: str | None = None
    #: When people were told that it fires, for the first time since it was told as over.
    first_told_us: int | None = None
    #: Of missing data: why everything was refused that was uploaded since, and the skew of the gateway's last upload.
    refused_for: str | None = None
    skew_s: float | None = None
    #: The second metrics that are not known now, each with the time since when; None: never seen.
    unknown: Sequence[tuple[str, int | None]] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the episode is neither resolved nor retracted."""
        return self.resolved_us is None and self.reason != RETRACTED

    @property
    def is_closed(self) -> bool:
        """Whether a person closed it, and its level has not risen since."""
        return self.closed_level is not None and severity(self.level) <= severity(self.closed_level)

    @property
    def is_of_gateway(self) -> bool:
        """Whether it is about a whole gateway."""
        return self.series_id is None

    def label(self, name: str) -> str:
        """Return a label by name: sensor, metric, gateway or a tag; empty if the episode has no such label."""
        own = {"sensor": self.sensor, "metric": self.metric, "gateway": self.gateway}
        return (own[name] if name in own else (self.tags or {}).get(name)) or ""


class Silence(msgspec.Struct, frozen=True):
    """A silence in force. The texts of its matchers may contain the wildcards * and ?."""

    id: int
    matchers: Mapping[str, Any]

    def covers(self, episode: UntoldEpisode) -> bool:
        """Return whether every matcher matches the episode."""
        return all(
            all(compile_glob(pattern)((episode.tags or {}).get(tag, "")) for tag, pattern in wanted.items())
            if name == "tags"
            else compile_glob(wanted)({"rule": episode.rule, "level": episode.level}.get(name) or episode.label(name))
            for name, wanted in self.matchers.items()
        )


class GatewaySeries(msgspec.Struct, frozen=True):
    """A series of a gateway about which there is an alert."""

    gateway: str
    sensor: str
    metric: str
    tags: Tags
