from pathlib import Path

import pytest

from app.alerting.trials.rule_test_files import Expected, GivenSeries, read_rule_tests
from app.clock import MINUTE_US
from app.yaml_files.problems import FileErrors, Place

SHIPPED = Path(__file__).parents[3] / "rules"
M = MINUTE_US
RULES = """\
rules:
  - {name: warm, sensors: {metric: t}, levels: {warning: {above: 8}}}
  - {name: hot, sensors: {metric: t, id: "oven-*"}, levels: {warning: {above: 80}}}
"""


def problems(folder: Path, text: str) -> list[str]:
    """Return the problems of a file that cannot be used, without the file's name."""
    file = folder / "x.yml"
    file.write_text(text)
    with pytest.raises(FileErrors) as raised:
        read_rule_tests(file)
    return [str(problem).replace(f"{folder}/", "").removeprefix("x.yml:") for problem in raised.value.problems]


def test_test_gets_defaults_when_keys_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(
        f"""{RULES}
tests:
  - name: short
    rule: warm
    series: [{{sensor: a, metric: t, readings: 5 x2}}]
    expect: [{{level: warning, fired: +1m}}]
"""
    )
    (test,) = read_rule_tests(tmp_path / "x.yml").tests
    start_us = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
    assert (test.place, test.name, test.rule) == (Place(str(tmp_path / "x.yml"), 6, 5), "short", "warm")
    assert test.series == (GivenSeries("a", "t", ((start_us, 5.0), (start_us + M, 5.0))),)
    assert test.expected == (Expected("warm", "a", M, level="warning"),)


def test_test_is_read_when_every_key_is_given(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(
        f"""{RULES}
tests:
  - name: long
    start: 2026-07-01T14:00:00+02:00
    every: 30s
    series:
      - {{sensor: a, metric: t, tags: {{room: 7}}, gateway: g, unit: "°C", every: 2m, readings: "5, +1s=1"}}
      - sensor: b
        metric: t
        readings: >
          1 x2,
          +1m=4
    expect:
      - rule: warm
        sensor: b
        metric: t
        level: critical
        steps: {{critical: +3m, warning: +2m}}
        started: +1m
        fired: +2m
        resolved: +1h
        message: |
          two
          lines
        notify: [ops, duty]
"""
    )
    (test,) = read_rule_tests(tmp_path / "x.yml").tests
    start_us = 1_782_907_200_000_000  # 2026-07-01T12:00:00Z
    first, second = test.series
    assert first == GivenSeries(
        "a", "t", ((start_us, 5.0), (start_us + 1_000_000, 1.0)), {"room": "7"}, gateway="g", unit="°C"
    )
    assert [t - start_us for t, _ in second.readings] == [0, M // 2, M]
    assert test.expected == (
        Expected(
            rule="warm",
            sensor="b",
            metric="t",
            level="critical",
            steps=(("warning", 2 * M), ("critical", 3 * M)),
            started_us=M,
            fired_us=2 * M,
            resolved_us=60 * M,
            message="two\nlines\n",
            notify=("ops", "duty"),
        ),
    )


def test_path_of_the_rules_is_relative_to_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "rules.yml").write_text(f"version: 1\n{RULES}")
    (tmp_path / "channels.yml").write_text(
        'version: 1\nchannels: {ops: {type: slack, webhook_url: "${CHANNEL_NOWHERE_SET}"}}'
    )
    text = "tests: [{name: a, series: [{sensor: a, metric: t, readings: 1}], expect: []}]\n"
    for number, (rules, notified) in enumerate([("..", ("ops",)), ("../rules.yml", ())]):
        file = tmp_path / "tests" / f"{number}.yml"
        file.write_text(f"rules: {rules}\n{text}")
        rule_set = read_rule_tests(file).rule_set
        assert [(rule.name, rule.terms.notify) for rule in rule_set.rules] == [("warm", notified), ("hot", notified)]


def test_every_problem_is_reported_at_its_place(tmp_path: Path) -> None:
    said = problems(
        tmp_path,
        """\
rules: nowhere.yml
test: []
tests:
  - name: a
    rule: x
    start: 2026-01-31T08:00:00
    every: 0
    series:
      - {sensor: a, metric: t, readings: "20 x5, foo"}
      - {sensor: a, metric: t, readings: 5}
      - {sensor: a, metric: u, readings: "5 x2, +1m=3"}
    expect:
      - {sensor: b, fired: 5m}
      - {rule: y, fired: +5m, level: fatal}
  - name: a
    series: []
    expect: 5
""",
    )
    assert said == [
        "1:1: there is no nowhere.yml; the path is relative to the folder of this file",
        '2:1: unknown key "test"; did you mean "tests"? (accepted: rules or tests)',
        '6:12: "start": "2026-01-31T08:00:00" has no zone; write a time such as 2026-01-31T08:00:00Z',
        '7:12: "every": it must be longer than 0',
        ('9:42: "readings": "foo" is not known; write readings such as "20 x5, 20..31 x12, gap 3, +1h=19.5"'),
        '10:9: "a" has a series "t" above already; join the two',
        '11:32: "readings": there are two readings at +1m',
        '13:9: "level" is missing: the last level of the episode',
        '13:10: this test has no readings of "b"',
        '13:28: "fired": "5m" is not a time counted from the start, such as +5m',
        '14:10: this test is about the rule "x" only',
        '14:38: "level": "fatal" is not known (accepted: info, warning, error, critical or disaster)',
        '15:5: the test "a" is here twice, first at x.yml:4:5; choose another name',
        '16:13: "series" takes a list of series; got an empty list',
        '17:13: "expect" takes a list of episodes; got the number 5',
    ]


def test_names_of_rules_and_sensors_are_checked(tmp_path: Path) -> None:
    said = problems(
        tmp_path,
        f"""{RULES}
tests:
  - name: a
    series: [{{sensor: oven-1, metric: t, readings: 1}}, {{sensor: oven-2, metric: t, readings: 1}}]
    expect:
      - {{rule: warn, sensor: ovem-1, level: warning, fired: +1m}}
      - {{level: warning, fired: +1m}}
""",
    )
    assert said == [
        '9:16: there is no rule "warn"; did you mean "warm"? (there are: warm or hot)',
        '9:22: this test has no readings of "ovem-1"; did you mean "oven-1"?',
        '10:9: "rule" is missing: the rule of the episode, here or for the test as a whole',
        '10:9: "sensor" is missing: one of oven-1, oven-2',
    ]


def test_test_is_refused_when_its_series_match_no_rule(tmp_path: Path) -> None:
    said = problems(
        tmp_path,
        f"""{RULES}
tests:
  - name: another metric
    series: [{{sensor: a, metric: u, readings: 100}}]
    expect: []
  - name: another sensor
    rule: hot
    series: [{{sensor: a, metric: t, readings: 100}}]
    expect: []
""",
    )
    assert said == [
        "7:5: no rule applies to any of these series: sensors: selects others",
        '11:5: "hot" does not apply to any of these series: sensors: selects others',
    ]


def test_problems_of_the_rules_are_reported_with_those_of_the_tests(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text("version: 1\nrules: [{name: r}]\n")
    said = problems(tmp_path, "rules: rules.yml\ntests: []\n")
    assert said == [
        'rules.yml:2:9: "levels" is missing: the levels, least severe first',
        'rules.yml:2:9: "sensors" is missing: which sensors and metric the rule applies to',
        '2:8: "tests" takes a list of tests; got an empty list',
    ]
    said = problems(tmp_path, 'rules: [{name: r, sensors: {metric: t}, levels: {warning: {above: "8"}}}]\ntests: []\n')
    assert said == [
        '1:67: "above" takes a number, such as 8.0; got the text "8" (without the quotes)',
        '2:8: "tests" takes a list of tests; got an empty list',
    ]


def test_file_is_refused_when_it_is_missing_or_holds_no_mapping(tmp_path: Path) -> None:
    assert problems(tmp_path, "") == ["1:1: the file is empty; a file of tests has rules: and tests:"]
    assert problems(tmp_path, "- a") == [
        "1:1: a file of tests takes a mapping, such as {rules: ../climate.yml, tests: […]}; got a list of 1"
    ]
    assert problems(tmp_path, "rules: 5\ntests: [a]") == [
        '1:8: "rules" takes a file or folder, such as ../climate.yml, or a list of rules; got the number 5',
        '2:9: this item takes a mapping, such as {name: a warm hour fires, series: […], expect: […]}; got the text "a"',
    ]
    (tmp_path / "latin.yml").write_bytes(b"# Gr\xf6\xdfe")
    for name, said in (
        ("missing.yml", ": this is not a file of at most 1,000,000 bytes"),
        ("latin.yml", ":1:5: this is not UTF-8 text; save the file as UTF-8"),
    ):
        with pytest.raises(FileErrors) as raised:
            read_rule_tests(tmp_path / name)
        assert str(raised.value) == f"{tmp_path / name}{said}"
