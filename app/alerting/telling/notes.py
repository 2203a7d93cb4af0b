"""Notes of message entries: the rule's own message, what late readings changed, how often a series fired and ended."""

from collections.abc import Iterator

import msgspec

from app.alerting.conditions import CONDITIONS
from app.alerting.episodes.reasons import NO_DATA, UNWATCHED
from app.alerting.telling.changes import LimitOf, SeriesActions
from app.alerting.telling.decisions import Action
from app.alerting.telling.situation import Situation
from app.alerting.telling.untold import UntoldEpisode
from app.alerting.telling.wording import rule_message
from app.clock import MINUTE_US, from_us
from app.durations import format_duration, format_skew
from app.local_times import format_span, format_time, format_times
from app.rule_texts import MISSING, format_value

#: A series with at least this many changes in one message fired again and again,
_FLAPPING = 3
#: and is flapping if they were not further apart than this, on average.
_FLAPPING_EVERY_US = 5 * MINUTE_US
#: Codes of refusals that come from the gateway's clock.
_REFUSED_TIMES = ("time_in_future", "time_too_old")


def note(situation: Situation, series: SeriesActions, zone: str, value: float | None) -> str:
    """Return the note about one series, in one or two lines."""
    lines = [
        _note(situation, series.main, zone, value),
        _held(situation, series.main, zone),
        *_unknown(situation, series.main, zone),
        _repeated(situation, series, zone),
    ]
    return "\n".join(line for line in lines if line)


def shown_episode(situation: Situation, action: Action) -> UntoldEpisode:
    """Return the episode that an entry shows: when data are back, that which is still open."""
    open_episode = situation.open_episode(action.episode) if is_end_of_no_data(action) else None
    return open_episode or action.episode


def is_end_of_no_data(action: Action) -> bool:
    """Return whether the action tells that missing data are back."""
    return action.kind == "resolved" and action.episode.reason == NO_DATA and action.episode.closed_us is None


def condition_of(situation: Situation, episode: UntoldEpisode) -> LimitOf | None:
    """Return the condition of the episode's level: as stored with it, or else as the rule has it."""
    if episode.kind != "threshold":
        return None
    kind, threshold = CONDITIONS.get(episode.condition or ""), episode.threshold
    if kind is not None and threshold is not None:
        numbers = tuple(map(float, threshold if isinstance(threshold, list | tuple) else (threshold,)))
        return LimitOf(kind(*numbers), numbers)
    terms = situation.terms(episode)
    levels = terms.levels if terms is not None else ()
    condition = next((level.condition for level in levels if level.name == episode.level), None)
    return None if condition is None else LimitOf(condition, msgspec.structs.astuple(condition))  # type: ignore[arg-type]


def compared_text(situation: Situation, episode: UntoldEpisode) -> str:
    """Return how the compared value comes from readings: `avg 5m`; empty for the readings themselves."""
    terms = situation.terms(episode)
    if terms is None or episode.kind != "threshold" or terms.value.kind == "last":
        return ""
    return f"{terms.value.kind} {format_duration(terms.value.window_us)}"


def unit_of(situation: Situation, episode: UntoldEpisode) -> str:
    """Return the unit of the compared value; that of a rate is the series' own unit per hour."""
    terms = situation.terms(episode)
    if terms is not None and terms.unit:
        return terms.unit
    unit = episode.unit or ""
    is_rate = terms is not None and terms.value.kind == "rate" and episode.kind == "threshold"
    return f"{unit}/h" if is_rate else unit


def _note(situation: Situation, action: Action, zone: str, value: float | None) -> str:
    episode = action.episode
    match action.kind:
        case "raised":
            told = situation.told[episode.id][action.channel]
            own = _rule_message(situation, episode, zone, value)
            return "\n".join(line for line in (f"raised from {told.level} to {episode.level}", own) if line)
        case "again" if situation.has_data_back(episode):
            return "data are back, and it still fires"
        case "again" if episode.closed_us is not None:
            return "it was closed, and its level has risen since"
        case "again":
            return "the end that was told is withdrawn"
        case "summary":
            return f"reported at {_time(situation, situation.now_us, zone)}"
        case "retracted" | "withdrawn" if episode.merged_into is not None:
            return "later readings show that it was part of another alert"
        case "retracted" | "withdrawn":
            return "later readings show that it did not happen"
        case "resolved":
            return _resolved_note(situation, episode, zone)
        case _ if episode.kind == "no_data":
            return _no_data_note(situation, episode, zone)
        case _:
            return _rule_message(situation, episode, zone, value)


def _held(situation: Situation, action: Action, zone: str) -> str:
    """Return that an alert fires by a value that is held: its newest reading is older than the alert."""
    episode = action.episode
    terms = situation.terms(episode)
    if terms is None or not terms.holds or action.kind not in ("firing", "raised", "again", "reminder"):
        return ""
    if episode.last_us is None or episode.last_us >= max(episode.fired_us, *(us for _, us in episode.steps), 0):
        return ""
    return f"no newer reading since {_time(situation, episode.last_us, zone)}"


def _unknown(situation: Situation, action: Action, zone: str) -> Iterator[str]:
    """Yield which second metrics an alert that fires does without, because they are not known."""
    if action.kind in ("firing", "raised", "again", "reminder") and action.episode.is_open:
        for metric, since_us in action.episode.unknown or ():
            since = "was never seen" if since_us is None else f"unknown since {_time(situation, since_us, zone)}"
            yield f"{metric} {since}, so the alert does without it"


def _repeated(situation: Situation, series: SeriesActions, zone: str) -> str:
    """Return how often the series fired and ended, if it did so again and again."""
    if series.changes < _FLAPPING or len(series.episodes) < 2:
        return ""
    first, last = series.changed_us
    times = format_times(from_us(first), from_us(last), zone, from_us(situation.now_us)).replace(" to ", " and ")
    fired = f"fired {len(series.episodes)} times between {times}"
    is_flapping = last - first <= _FLAPPING_EVERY_US * series.changes
    return f"flapping: {series.changes} changes in {format_span(last - first)}, {fired}" if is_flapping else fired


def _resolved_note(situation: Situation, episode: UntoldEpisode, zone: str) -> str:
    if episode.closed_us is not None:
        return closed_text(episode.closed_by, episode.closed_note)
    if episode.reason == NO_DATA:
        return _data_back_note(situation, episode, zone)
    if episode.kind == "clock":
        return UNWATCHED if episode.reason == UNWATCHED else "the clock is right again"
    if situation.is_cleared(episode):
        return f"ended for lack of data since {_time(situation, episode.received_us or episode.started_us, zone)}"
    return episode.reason or ""


def closed_text(by: str | None, text: str | None) -> str:
    """Return who closed an alert, and why: `resolved by ann: sensor replaced`."""
    return f"resolved by {by}{f': {text}' if text else ''}"


def _data_back_note(situation: Situation, no_data_alert: UntoldEpisode, zone: str) -> str:
    """Return the state of the series now that data are back: firing, over, or below the thresholds all along."""
    if no_data_alert.series_id is None:
        return "data are back"
    firing = situation.open_episode(no_data_alert)
    if firing is not None:
        limit = condition_of(situation, firing)
        unit = unit_of(situation, firing)
        past = f"{limit.text}{unit and f' {unit}'}" if limit is not None else "firing"
        return f"data are back, {past} since {_time(situation, firing.started_us, zone)}"
    ended_us = situation.last_end(no_data_alert)
    if ended_us is not None:
        return f"data are back; it was over at {_time(situation, ended_us, zone)}"
    return "data are back, fine all along"


def _no_data_note(situation: Situation, episode: UntoldEpisode, zone: str) -> str:
    unit = unit_of(situation, episode)
    last = "" if episode.last_value is None else f", last {format_value(episode.last_value)}{unit and f' {unit}'}"
    said = f"no data since {_time(situation, episode.started_us, zone)}{last}{_silent_sensors(situation, episode)}"
    if episode.refused_for is not None:
        return f"{said}; uploads arrive, all refused: {_refusal(episode)}"
    return f"{said}: check its power and its network" if episode.is_of_gateway else said


def _silent_sensors(situation: Situation, episode: UntoldEpisode) -> str:
    """Return how many sensors are silent with their gateway."""
    count = situation.count_sensors(episode.gateway) if episode.is_of_gateway else 0
    return f", {count} {'sensors are' if count > 1 else 'sensor is'} silent" if count else ""


def _refusal(episode: UntoldEpisode) -> str:
    """Return why everything is refused that a gateway uploads."""
    if episode.refused_for in _REFUSED_TIMES and episode.skew_s is not None:
        return f"clock {format_skew(episode.skew_s)}"
    return f"{episode.refused_for}"


def _rule_message(situation: Situation, episode: UntoldEpisode, zone: str, value: float | None) -> str:
    terms = situation.terms(episode)
    if terms is None:  # a clock's alert says itself what is wrong
        return episode.reason or "" if episode.kind == "clock" else ""
    return rule_message(
        terms,
        rule=episode.rule,
        level=episode.level,
        sensor=episode.sensor or "",
        metric=episode.metric or "",
        tags=episode.tags or {},
        unit=unit_of(situation, episode),
        value=value,
        threshold=episode.threshold,
        since=_time(situation, episode.started_us, zone),
        peak=episode.peak,
        duration=_duration(situation, episode),
        gateway=episode.gateway,
    )


def _duration(situation: Situation, episode: UntoldEpisode) -> str:
    """Return how long the alert has lasted: until its end, else until now."""
    end_us = situation.now_us if episode.resolved_us is None else episode.resolved_us
    return format_span(end_us - episode.started_us) if end_us >= episode.started_us else MISSING


def _time(situation: Situation, us: int, zone: str) -> str:
    return format_time(from_us(us), zone, from_us(situation.now_us))
