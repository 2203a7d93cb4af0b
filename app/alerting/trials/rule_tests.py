"""Runner of unit tests of rules: compares the episodes and messages that the readings make with those expected."""

from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter

import msgspec

from app.alerting.conditions import farthest
from app.alerting.episodes.machine import Episode, run
from app.alerting.episodes.samples import Sample, samples
from app.alerting.episodes.timed import Timing, run_timed
from app.alerting.evaluation.writing.stored_episodes import threshold_of
from app.alerting.language.reader import EVERY_CHANNEL
from app.alerting.rules.companions import CompanionIndex, CompanionSeries
from app.alerting.rules.matching import Match, RuleBook
from app.alerting.telling.wording import rule_message
from app.alerting.trials.rule_test_files import Expected, GivenSeries, RuleTest, RuleTestFile
from app.alerting.trials.series_notation import format_offset
from app.clock import from_us
from app.local_times import format_span
from app.model import SeriesId
from app.yaml_files.problems import Place


class RuleTestResult(msgspec.Struct, frozen=True):
    """The result of one test."""

    place: Place
    name: str
    #: One line for each episode: `-` was expected only, `+` happened only, a space was expected and happened.
    #: Empty: the test passed.
    difference: tuple[str, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        return not self.difference


def run_rule_tests(file: RuleTestFile) -> Iterator[RuleTestResult]:
    """Run the tests of a file, one after another, and yield their results."""
    book = RuleBook(file.rule_set)
    for test in file.tests:
        begun = perf_counter()
        difference = _compare(test.expected, list(_episodes(test, book)))
        yield RuleTestResult(test.place, test.name, difference, perf_counter() - begun)


def _episodes(test: RuleTest, book: RuleBook) -> Iterator[Expected]:
    """Yield the episodes that the rules make of a test's readings, each as an Expected with every field set."""
    index = CompanionIndex(
        [CompanionSeries(SeriesId(number), one.sensor, one.metric, one.tags) for number, one in enumerate(test.series)]
    )
    for series in test.series:
        for match in book.matches(series.sensor, series.metric, series.tags, series.gateway):
            if test.rule in (None, match.rule.name):
                taken = list(samples(match.series_rule.value, series.readings))
                values = {sample.t: sample.value for sample in taken}
                for episode in _run(test, series, match, taken, index):
                    yield _happened(test, series, match, episode, values)


def _run(
    test: RuleTest, series: GivenSeries, match: Match, taken: Sequence[Sample], index: CompanionIndex
) -> list[Episode]:
    if not match.is_timed:
        return run(match.series_rule, taken)
    companions = index.companions(series.sensor, series.tags, match.series_rule, [])
    readings = [test.series[companion.series_id].readings for companion in companions]
    return run_timed(match.series_rule, taken, Timing(test.until_us, companions), readings)


def _happened(
    test: RuleTest, series: GivenSeries, match: Match, episode: Episode, values: Mapping[int, float]
) -> Expected:
    notify = match.terms.notified_at(episode.level, series.tags)
    return Expected(
        rule=match.rule.name,
        sensor=series.sensor,
        metric=series.metric,
        started_us=episode.started_at - test.start_us,
        fired_us=episode.fired_at - test.start_us,
        resolved_us=None if episode.resolved_at is None else episode.resolved_at - test.start_us,
        level=episode.level,
        steps=tuple((step.level, step.t - test.start_us) for step in episode.steps),
        message=_message(series, match, episode, values),
        # A rule written in the test file itself notifies every channel, and such a file defines none.
        notify=() if notify == EVERY_CHANNEL else notify,
    )


def _message(series: GivenSeries, match: Match, episode: Episode, values: Mapping[int, float]) -> str:
    """Return the rule's message as it is when the alert fires."""
    level = episode.steps[0].level
    conditions = {each.name: each.condition for each in match.series_rule.levels}
    # A held value may have come before the episode.
    value = [value for t, value in values.items() if t <= episode.fired_at][-1]
    so_far = [value, *(each for t, each in values.items() if episode.started_at <= t <= episode.fired_at)]
    return rule_message(
        match.terms,
        rule=match.rule.name,
        level=level,
        sensor=series.sensor,
        metric=series.metric,
        tags=series.tags,
        unit=series.unit,
        value=value,
        threshold=threshold_of(conditions[level]),
        since=f"{from_us(episode.started_at):%H:%M} UTC",
        peak=farthest(conditions[level], min(so_far), max(so_far)),
        duration=format_span(episode.fired_at - episode.started_at),
        gateway=None,
    )


#: Fields of Expected that are not compared when they are None.
_OPTIONAL = ("metric", "started_us", "level", "steps", "message", "notify")
#: An expected episode and the one that happened; None on one side: there is no such episode.
_Comparison = tuple[Expected | None, Expected | None]


def _compare(expected: Sequence[Expected], happened: Sequence[Expected]) -> tuple[str, ...]:
    """Return the difference, line by line and in order of time; empty when every episode was expected."""
    pairs = _pair(expected, happened)
    if all(wanted == found for wanted, found in pairs):
        return ()
    return tuple(line for pair in sorted(pairs, key=_order) for line in _lines(*pair))


def _pair(expected: Sequence[Expected], happened: Sequence[Expected]) -> list[_Comparison]:
    """Pair each expected episode with one that is equal, else with one of the same rule and sensor, else with None."""
    unpaired = list(happened)
    # The expectations with the most fields choose first: an episode equal to one of them may also equal another.
    waiting = sorted(expected, key=lambda one: sum(getattr(one, name) is None for name in _OPTIONAL))
    pairs: list[_Comparison] = []
    for is_partner in (_is_equal, _has_same_rule_and_sensor):
        for wanted in list(waiting):
            found = next((one for one in unpaired if is_partner(wanted, one)), None)
            if found is not None:
                unpaired.remove(found)
                waiting.remove(wanted)
                pairs.append((wanted, _reduced(wanted, found)))
    return [*pairs, *((wanted, None) for wanted in waiting), *((None, _shortened(one)) for one in unpaired)]


def _is_equal(wanted: Expected, happened: Expected) -> bool:
    return wanted == _reduced(wanted, happened)


def _has_same_rule_and_sensor(wanted: Expected, happened: Expected) -> bool:
    return (wanted.rule, wanted.sensor) == (happened.rule, happened.sensor)


def _reduced(wanted: Expected, happened: Expected) -> Expected:
    """Return the episode that happened without the fields that the expected episode leaves out."""
    return msgspec.structs.replace(happened, **{name: None for name in _OPTIONAL if getattr(wanted, name) is None})


def _shortened(happened: Expected) -> Expected:
    """Return an episode that was not expected without the fields that its line need not show."""
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
    parts = [
        one.level,
        None if one.started_us is None else f"started {format_offset(one.started_us)}",
        f"fired {format_offset(one.fired_us)}",
        "still firing" if one.resolved_us is None else f"resolved {format_offset(one.resolved_us)}",
        None if one.steps is None else " then ".join(f"{level} {format_offset(us)}" for level, us in one.steps),
        None if one.message is None else f'"{one.message}"',
        None if one.notify is None else f"notify [{', '.join(one.notify)}]",
    ]
    series = one.sensor if one.metric is None else f"{one.sensor} {one.metric}"
    return f"{one.rule}, {series}: {', '.join(part for part in parts if part is not None)}"
