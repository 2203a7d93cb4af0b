"""Reports of backtests: JSON for programs and a table for people."""

from collections.abc import Iterable
from typing import Any

from rich.table import Table
from rich.text import Text

from app.alerting.rules.model import RuleSet
from app.alerting.trials.backtest import Backtest, BacktestEpisode
from app.clock import SECOND_US, from_us, rfc3339
from app.durations import format_duration
from app.rule_texts import format_value

_DATE, _TIME = "%Y-%m-%d", "%H:%M:%S"
_HEADINGS = ("rule", "sensor", "metric", "level", "started (UTC)", "fired", "resolved", "duration", "peak", "touches")


def describe_backtest(result: Backtest, rule_set: RuleSet) -> dict[str, Any]:
    """Return the result as values that JSON can hold; times are RFC 3339 in UTC."""
    return {
        "from": rfc3339(result.from_us),
        "to": rfc3339(result.to_us),
        "rules": [rule.name for rule in rule_set.rules],
        "series": result.series,
        "readings": result.readings,
        "episodes": [_describe(found) for found in result.episodes],
    }


def episode_table(episodes: Iterable[BacktestEpisode]) -> Table:
    """Return a table with one episode a line; times on the day on which the episode started show no date."""
    table = Table(*_HEADINGS, box=None, pad_edge=False)
    for found in episodes:
        table.add_row(*map(Text, _row(found)))
    return table


def _describe(found: BacktestEpisode) -> dict[str, Any]:
    episode = found.episode
    return {
        "rule": found.rule,
        "sensor": found.sensor,
        "metric": found.metric,
        "level": episode.level,
        "started_at": rfc3339(episode.started_at),
        "fired_at": rfc3339(episode.fired_at),
        "resolved_at": None if episode.resolved_at is None else rfc3339(episode.resolved_at),
        "steps": [{"level": step.level, "at": rfc3339(step.t)} for step in episode.steps],
        "duration_s": _duration_us(found) / SECOND_US,
        "peak": found.peak,
        "unit": found.unit,
        "touches": found.touches,
    }


def _row(found: BacktestEpisode) -> tuple[str, ...]:
    episode = found.episode
    duration = format_duration(_duration_us(found) // SECOND_US * SECOND_US)
    return (
        found.rule,
        found.sensor,
        found.metric,
        episode.level,
        f"{from_us(episode.started_at):{_DATE} {_TIME}}",
        _moment(episode.fired_at, episode.started_at),
        "still firing" if episode.resolved_at is None else _moment(episode.resolved_at, episode.started_at),
        duration,
        f"{format_value(found.peak)} {found.unit or ''}".strip(),
        ", ".join(found.touches),
    )


def _duration_us(found: BacktestEpisode) -> int:
    """Return the time from the episode's start to its end, or to the newest reading while it is open."""
    end = found.episode.resolved_at
    return (found.seen_to_us if end is None else end) - found.episode.started_at


def _moment(us: int, started_us: int) -> str:
    same_day = from_us(us).date() == from_us(started_us).date()
    return f"{from_us(us):{_TIME if same_day else f'{_DATE} {_TIME}'}}"
