"""Reading of files with unit tests of rules; every problem is reported with its line and column."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from app.alerting.episodes.samples import StoredReading
from app.alerting.language.files import load_unsent
from app.alerting.language.leaves import Reference
from app.alerting.language.names import Names
from app.alerting.language.reader import RuleReader
from app.alerting.rules.matching import RuleBook
from app.alerting.rules.model import RuleSet
from app.alerting.trials.rule_test_grammar import EVERY_US, TEST_FILE
from app.alerting.trials.series_notation import expand, format_offset
from app.hints import did_you_mean, listed, shown
from app.model import LEVEL_NAMES, Tags
from app.yaml_files.kinds import UNFIT, read_logged
from app.yaml_files.mappings import Given
from app.yaml_files.nodes import ScalarNode, compose
from app.yaml_files.problems import FileErrors, Place, ProblemLog, problem_at
from app.yaml_files.texts import read_text

#: The time at which a test without `start` begins, 2026-01-01T00:00:00Z; it is visible only in `{since}` of messages.
START_US = 1_767_225_600_000_000


class GivenSeries(msgspec.Struct, frozen=True):
    """The readings of one series in a test, and the properties of the series that rules match."""

    sensor: str
    metric: str
    readings: tuple[StoredReading, ...]
    tags: Tags = {}
    gateway: str | None = None
    unit: str | None = None


class Expected(msgspec.Struct, frozen=True):
    """An episode that a test expects. Times are microseconds from the test's start.

    A field that is None is not compared, except `resolved_us`: there None means that the episode is still open.
    """

    rule: str
    sensor: str
    fired_us: int
    resolved_us: int | None = None
    metric: str | None = None
    started_us: int | None = None
    #: The last level, which is the most severe one.
    level: str | None = None
    steps: tuple[tuple[str, int], ...] | None = None
    #: The text of the rule's `message` when the episode fires.
    message: str | None = None
    #: The channels that messages of the last level are sent to.
    notify: tuple[str, ...] | None = None


class RuleTest(msgspec.Struct, frozen=True):
    """One test: readings, and the episodes that the rules are expected to make of them."""

    place: Place
    name: str
    #: The only rule under test; None: all of them.
    rule: str | None
    start_us: int
    series: tuple[GivenSeries, ...]
    expected: tuple[Expected, ...]
    #: How far values are held.
    until_us: int = 0


class RuleTestFile(msgspec.Struct, frozen=True):
    """The tests of a file and the rules under test."""

    rule_set: RuleSet
    tests: tuple[RuleTest, ...]


def read_rule_tests(path: Path, channels_dir: Path | None = None) -> RuleTestFile:
    """Read a file of tests and the rules that it names; raise FileErrors with every problem of both.

    With `channels_dir`, the channels are those of that folder.
    """
    log = ProblemLog()
    text = read_text(path, log)
    if text is None:
        raise FileErrors(log.problems)
    node = compose(text, str(path))
    if isinstance(node, ScalarNode) and node.meaning == "nothing":
        raise problem_at(node.place, "the file is empty; a file of tests has rules: and tests:")
    file: Given = read_logged(TEST_FILE, node, "a file of tests", log)
    if file is UNFIT:
        raise FileErrors(log.problems)
    rule_set = _read_rules(file, path, log, channels_dir)
    tests = tuple(_RuleTestReader(log, rule_set).tests(file))
    if rule_set is None or log.problems:
        raise FileErrors(log.problems)
    return RuleTestFile(rule_set, tests)


def _read_rules(file: Given, path: Path, log: ProblemLog, channels_dir: Path | None) -> RuleSet | None:
    """Return the rules under test; None when they are left out, are of the wrong type or have problems."""
    rules: str | tuple[Given, ...] | None = file.get("rules")
    if rules is None:
        return None
    if isinstance(rules, tuple):
        reader = RuleReader(log, Names(log))
        return RuleSet(tuple(reader.read_rules(Given(file.places["rules"], values={"rules": rules}))))
    named = path.parent / rules
    if not named.exists():
        log.add(file.places["rules"], f"there is no {named}; the path is relative to the folder of this file")
        return None
    try:
        return load_unsent(named, channels_dir)
    except FileErrors as errors:
        log.problems.extend(errors.problems)
        return None


class _RuleTestReader:
    """Turns the mappings read from a file into tests; problems go to the log."""

    def __init__(self, log: ProblemLog, rule_set: RuleSet | None) -> None:
        self._log = log
        self._rules = None if rule_set is None else [rule.name for rule in rule_set.rules]
        self._book = RuleBook(rule_set or RuleSet())
        self._names: dict[str, Place] = {}

    def tests(self, file: Given) -> Iterator[RuleTest]:
        given: Given
        for given in file.get("tests", ()):
            self._define(given)
            rule = self._rule(given)
            start_us = given.get("start", START_US)
            series = tuple(self._series(given, start_us))
            expected = tuple(self._expected(each, rule, series) for each in given.get("expect", ()))
            self._check_has_match(given, rule, series)
            until_us = self._until(given, start_us, series)
            yield RuleTest(given.place, given.get("name", ""), rule, start_us, series, expected, until_us)

    def _until(self, given: Given, start_us: int, series: tuple[GivenSeries, ...]) -> int:
        """Return the end of the test: the last reading, or later."""
        last_us = max((t for one in series for t, _ in one.readings), default=start_us)
        until_us: int = start_us + given.get("until", last_us - start_us)
        if until_us < last_us:
            last = format_offset(last_us - start_us)
            self._log.add(given.places["until"], f'"until" is before the last reading, which is at {last}')
        return until_us

    def _define(self, given: Given) -> None:
        if "name" in given.values:
            name, place = given.values["name"], given.places["name"]
            first = self._names.setdefault(name, place)
            if first != place:
                self._log.add(place, f"the test {shown(name)} is here twice, first at {first}; choose another name")

    def _rule(self, given: Given) -> str | None:
        """Return the name of the rule that a test or an expected episode names; log a rule that does not exist."""
        reference: Reference | None = given.get("rule")
        if reference is None:
            return None
        if self._rules is not None and reference.name not in self._rules:
            meant = did_you_mean(reference.name, self._rules)
            there_are = listed(self._rules) if self._rules else "none"
            self._log.add(reference.place, f"there is no rule {shown(reference.name)}{meant} (there are: {there_are})")
        return reference.name

    def _series(self, test: Given, start_us: int) -> Iterator[GivenSeries]:
        seen: dict[tuple[str, str], Place] = {}
        given: Given
        for given in test.get("series", ()):
            tags: Given = given.get("tags", Given(given.place))
            one = GivenSeries(
                sensor=given.get("sensor", ""),
                metric=given.get("metric", ""),
                readings=self._readings(given, start_us, given.get("every", test.get("every", EVERY_US))),
                tags=tags.values,
                gateway=given.get("gateway"),
                unit=given.get("unit"),
            )
            if seen.setdefault((one.sensor, one.metric), given.place) != given.place:
                self._log.add(
                    given.place, f"{shown(one.sensor)} has a series {shown(one.metric)} above already; join the two"
                )
            yield one

    def _readings(self, given: Given, start_us: int, every_us: int) -> tuple[StoredReading, ...]:
        try:
            return expand(given.get("readings", ()), start_us, every_us)
        except ValueError as error:
            self._log.add(given.places["readings"], f'"readings": {error}')
            return ()

    def _expected(self, given: Given, rule: str | None, series: tuple[GivenSeries, ...]) -> Expected:
        if given.lacks("level", "steps"):
            self._log.add(given.place, '"level" is missing: the last level of the episode')
        steps: Given | None = given.get("steps")
        notify: tuple[Reference, ...] | None = given.get("notify")
        return Expected(
            rule=self._expected_rule(given, rule),
            sensor=self._expected_sensor(given, series),
            fired_us=given.get("fired", 0),
            resolved_us=given.get("resolved"),
            metric=given.get("metric"),
            started_us=given.get("started"),
            level=given.get("level"),
            steps=None if steps is None else _steps(steps),
            message=given.get("message"),
            notify=None if notify is None else tuple(channel.name for channel in notify),
        )

    def _expected_rule(self, given: Given, rule: str | None) -> str:
        own = self._rule(given)
        if own is None and rule is None:
            self._log.add(given.place, '"rule" is missing: the rule of the episode, here or for the test as a whole')
        if own is not None and rule is not None and own != rule:
            self._log.add(given.places["rule"], f"this test is about the rule {shown(rule)} only")
        return own or rule or ""

    def _expected_sensor(self, given: Given, series: tuple[GivenSeries, ...]) -> str:
        sensors = list(dict.fromkeys(one.sensor for one in series))
        sensor: str | None = given.get("sensor")
        if sensor is None:
            if len(sensors) > 1 and "sensor" not in given.places:
                self._log.add(given.place, f'"sensor" is missing: one of {", ".join(sensors)}')
            return next(iter(sensors), "")
        if sensor not in sensors:
            meant = did_you_mean(sensor, sensors)
            self._log.add(given.places["sensor"], f"this test has no readings of {shown(sensor)}{meant}")
        return sensor

    def _check_has_match(self, given: Given, rule: str | None, series: tuple[GivenSeries, ...]) -> None:
        """Log a test whose series match no rule under test: it would make no episode whatever its readings are."""
        if self._rules is None or (rule is not None and rule not in self._rules):
            return
        # A series that could not be read has its own problem in the log.
        all_read = series and all(one.sensor and one.metric for one in series)
        if not all_read or any(self._has_match(one, rule) for one in series):
            return
        who = "no rule applies" if rule is None else f"{shown(rule)} does not apply"
        self._log.add(given.place_of("series"), f"{who} to any of these series: sensors: selects others")

    def _has_match(self, one: GivenSeries, rule: str | None) -> bool:
        matches = self._book.matches(one.sensor, one.metric, one.tags, one.gateway)
        return any(rule in (None, match.rule.name) for match in matches)


def _steps(given: Given) -> tuple[tuple[str, int], ...]:
    """Return the levels with their times, least severe first: an episode's level only rises."""
    return tuple((name, given.values[name]) for name in LEVEL_NAMES if name in given.values)
