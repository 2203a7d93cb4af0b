"""Unit tests of rules: given readings, the episodes and messages that were expected against those that come."""

from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter

import msgspec

from app.alerting.episodes.machine import Episode, run
from app.alerting.episodes.samples import samples
from app.alerting.evaluation.stored_episodes import threshold_of
from app.alerting.language.reader import EVERY_CHANNEL
from app.alerting.rules.matching import Match, RuleBook
from app.alerting.rules.problems import Place
from app.alerting.telling.messages import threshold_text
from app.alerting.telling.wording import rule_message
from app.alerting.trials.rule_test_files import Expected, GivenSeries, RuleTest, RuleTestFile
from app.alerting.trials.series_notation import format_offset
from app.clock import from_us


class RuleTestResult(msgspec.Struct, frozen=True):
    """How one test went."""

    place: Place
    name: str
    #: Line by line, `-` expected, `+` happened, both or neither marked with a space; empty: the test passed.
    difference: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.difference


def run_rule_tests(file: RuleTestFile) -> Iterator[RuleTestResult]:
    """Run the tests of a file, one after the other."""
    book = RuleBook(file.rule_set)
    for test in file.tests:
        begun = perf_counter()
        difference = _compare(test.expected, list(_episodes(test, book)))
        yield RuleTestResult(test.place, test.name, difference, perf_counter() - begun)


def _episodes(test: RuleTest, book: RuleBook) -> Iterator[Expected]:
    """Give what really happens, in the form of what could be expected, everything filled in."""
    for series in test.series:
        for match in book.matches(series.sensor, series.metric, series.tags, series.gateway):
            if test.rule in (None, match.rule.name):
                values = {sample.t: sample.value for sample in samples(match.series_rule.value, series.readings)}
                seen = samples(match.series_rule.value, series.readings)
                for episode in run(match.series_rule, seen):
                    yield _happened(test, series, match, episode, values)


def _happened(
    test: RuleTest, series: GivenSeries, match: Match, episode: Episode, values: Mapping[int, float]
) -> Expected:
    notify = match.terms.notified_at(episode.level)
    return Expected(
        rule=match.rule.name,
        sensor=series.sensor,
        metric=series.metric,
        started_us=episode.started_at - test.start_us,
        fired_us=episode.fired_at - test.start_us,
        resolved_us=None if episode.resolved_at is None else episode.resolved_at - test.start_us,
        level=episode.level,
        steps=tuple((step.level, step.t - test.start_us) for step in episode.steps),
        message=_message(series, match, episode, values[episode.fired_at]),
        # Rules within a test's file, without channels, tell every channel that there is: none.
        notify=() if notify == EVERY_CHANNEL else notify,
    )


def _message(series: GivenSeries, match: Match, episode: Episode, value: float) -> str:
    level = episode.steps[0].level
    conditions = {each.name: each.condition for each in match.series_rule.levels}
    return rule_message(
        match.terms,
        rule=match.rule.name,
        level=level,
        sensor=series.sensor,
        metric=series.metric,
        tags=series.tags,
        unit=series.unit,
        value=value,
        threshold=threshold_text(threshold_of(conditions[level])),
        since=f"{from_us(episode.started_at):%H:%M} UTC",
    )


#: What an expectation may leave open. Not `resolved_us`: without an end it says that there is none.
_OPEN = ("metric", "started_us", "level", "steps", "message", "notify")
_Comparison = tuple[Expected | None, Expected | None]


def _compare(expected: Sequence[Expected], happened: Sequence[Expected]) -> tuple[str, ...]:
    """Write both, side by side where they belong together, or nothing where they agree."""
    pairs = _pair(expected, happened)
    if all(wanted == found for wanted, found in pairs):
        return ()
    return tuple(line for pair in sorted(pairs, key=_order) for line in _lines(*pair))


def _pair(expected: Sequence[Expected], happened: Sequence[Expected]) -> list[_Comparison]:
    """Give each expectation the episode that fits it, else one of the same rule and sensor, else none."""
    left = list(happened)
    # Those that say most choose first: what fits them may fit others, too.
    waiting = sorted(expected, key=lambda one: sum(getattr(one, name) is None for name in _OPEN))
    pairs: list[_Comparison] = []
    for fits in (_fits, _is_near):
        for wanted in list(waiting):
            found = next((one for one in left if fits(wanted, one)), None)
            if found is not None:
                left.remove(found)
                waiting.remove(wanted)
                pairs.append((wanted, _as_said(wanted, found)))
    return [*pairs, *((wanted, None) for wanted in waiting), *((None, _in_short(one)) for one in left)]


def _fits(wanted: Expected, happened: Expected) -> bool:
    return wanted == _as_said(wanted, happened)


def _is_near(wanted: Expected, happened: Expected) -> bool:
    return (wanted.rule, wanted.sensor) == (happened.rule, happened.sensor)


def _as_said(wanted: Expected, happened: Expected) -> Expected:
    """Leave out of what happened what the expectation leaves open."""
    return msgspec.structs.replace(happened, **{name: None for name in _OPEN if getattr(wanted, name) is None})


def _in_short(happened: Expected) -> Expected:
    """Leave out of an episode that nobody expected what its line need not say."""
    return msgspec.structs.replace(happened, steps=None, message=None, notify=None)


def _order(pair: _Comparison) -> tuple[int, str, str]:
    return next((one.fired_us, one.rule, one.sensor) for one in pair if one is not None)


def _lines(wanted: Expected | None, found: Expected | None) -> Iterator[str]:
    if wanted is not None and wanted == found:
        yield f"  {_text(wanted)}"
        return
    if wanted is not None:
        yield f"- {_text(wanted)}"
    if found is not None:
        yield f"+ {_text(found)}"


def _text(one: Expected) -> str:
    says = [
        one.level,
        None if one.started_us is None else f"started {format_offset(one.started_us)}",
        f"fired {format_offset(one.fired_us)}",
        "still firing" if one.resolved_us is None else f"resolved {format_offset(one.resolved_us)}",
        None if one.steps is None else " then ".join(f"{level} {format_offset(us)}" for level, us in one.steps),
        None if one.message is None else f'"{one.message}"',
        None if one.notify is None else f"notify [{', '.join(one.notify)}]",
    ]
    series = one.sensor if one.metric is None else f"{one.sensor} {one.metric}"
    return f"{one.rule}, {series}: {', '.join(part for part in says if part is not None)}"
