"""Titles of messages: how many alerts of which level, the worst first, then the rule and what they have in common."""

from collections import Counter
from collections.abc import Sequence

from app.alerting.telling.changes import SeriesActions
from app.alerting.telling.notes import is_end_of_no_data, shown_episode
from app.alerting.telling.situation import Situation
from app.model import LEVEL_NAMES

_ENDS = {
    "retracted": "withdrawn",
    "withdrawn": "withdrawn",
    "resolved": "resolved",
    "summary": "over",
    "firing": "over",
}
#: After the level, by the kind of the item.
_AGAIN = {"again": " again", "reminder": " still firing"}
_DATA_BACK = "with data again"
_ORDER = (
    *reversed(LEVEL_NAMES),
    *(f"{level} again" for level in reversed(LEVEL_NAMES)),
    "offline",
    "without data",
    *(f"{level} still firing" for level in reversed(LEVEL_NAMES)),
    "still offline",
    "still without data",
    "withdrawn",
    "resolved",
    _DATA_BACK,
    "over",
)


def title(situation: Situation, series: Sequence[SeriesActions]) -> str:
    """Return the title: `3 critical, 40 warning: cold-room-too-warm · harbour`."""
    counts = Counter(_word(situation, each) for each in series)
    words = sorted(counts, key=_ORDER.index)
    episode = series[0].main.episode
    group = ", ".join(situation.group_labels(episode))
    counted = ", ".join(f"{counts[word]} {word}" for word in words)
    return f"{counted}: {episode.rule}{f' · {group}' if group else ''}"


def _word(situation: Situation, series: SeriesActions) -> str:
    action = series.main
    episode = action.episode
    if is_end_of_no_data(action):
        open_one = shown_episode(situation, action)
        return open_one.level + _AGAIN["reminder"] if open_one is not episode else _DATA_BACK
    if series.is_over:
        return _ENDS[action.kind]
    if episode.kind == "no_data":
        missing = "offline" if episode.series_id is None else "without data"
        return f"still {missing}" if action.kind == "reminder" else missing
    return episode.level + _AGAIN.get(action.kind, "")
