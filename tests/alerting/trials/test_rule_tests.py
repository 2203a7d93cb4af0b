from pathlib import Path
from textwrap import indent

import pytest

from app.alerting.trials.rule_test_files import read_rule_tests
from app.alerting.trials.rule_tests import run_rule_tests
from app.yaml_files.problems import FileErrors

SHIPPED = Path(__file__).parents[3] / "rules"
RULES = """\
rules:
  - name: warm
    sensors: {metric: temperature}
    unit: "°C"
    levels: {warning: {above: 8, for: 2m, notify: [ops]}, critical: {above: 12}}
    clear: {below: 7, for: 1m}
    message: "{sensor} in {site} at {floor}: {value}{unit}, limit {threshold}, {level} since {since} ({rule}, {metric})"
  - name: rising
    sensors: {metric: temperature, tags: {site: harbour}}
    value: delta 2m
    levels: {info: {above: 3}}
"""
SERIES = """\
- sensor: cellar
  metric: temperature
  tags: {site: harbour}
  unit: K
  readings: 5, 9 x3, 13 x2, 6 x3
"""


def differences(folder: Path, expect: str, *, series: str = SERIES, rule: str = "") -> list[str]:
    """Run one test and return the lines of its difference; an empty list means that it passed."""
    file = folder / "x.yml"
    file.write_text(
        f"{RULES}tests:\n  - name: a\n    start: 2026-07-01T12:00:00Z\n    series:\n{indent(series, '      ')}"
        f"    expect:\n{indent(expect, '      ')}" + (f"    rule: {rule}\n" if rule else "")
    )
    (outcome,) = run_rule_tests(read_rule_tests(file))
    assert outcome.passed == (outcome.difference == ())
    return list(outcome.difference)


WARM = "- {rule: warm, level: critical, fired: +3m, resolved: +7m}\n"
RISING = """\
- {rule: rising, level: info, fired: +1m, resolved: +3m}
- {rule: rising, level: info, fired: +4m, resolved: +6m}
"""


@pytest.mark.parametrize("file", sorted((SHIPPED / "tests").glob("*.yml")), ids=lambda file: file.name)
def test_shipped_rules_pass_their_tests(file: Path) -> None:
    assert file.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    outcomes = list(run_rule_tests(read_rule_tests(file)))
    assert [line for outcome in outcomes for line in outcome.difference] == []
    assert outcomes


def test_every_shipped_rule_has_a_test() -> None:
    files = [read_rule_tests(file) for file in (SHIPPED / "tests").glob("*.yml")]
    rules = {rule.name for file in files for rule in file.rule_set.rules}
    tested = {expected.rule for file in files for test in file.tests for expected in test.expected}
    assert tested == rules


def test_test_passes_when_all_episodes_are_expected(tmp_path: Path) -> None:
    assert differences(tmp_path, WARM + RISING) == []
    assert differences(tmp_path, RISING + WARM) == []


def test_test_is_about_one_rule_when_it_names_the_rule(tmp_path: Path) -> None:
    assert differences(tmp_path, "- {level: critical, fired: +3m, resolved: +7m}\n", rule="warm") == []


def test_every_property_of_an_episode_can_be_expected(tmp_path: Path) -> None:
    message = "cellar in harbour at –: 9°C, limit 8, warning since 12:01 UTC (warm, temperature)"
    episode = f"""\
- rule: warm
  sensor: cellar
  metric: temperature
  level: critical
  steps: {{warning: +3m, critical: +4m}}
  started: +1m
  fired: +3m
  resolved: +7m
  message: "{message}"
  notify: []
"""
    assert differences(tmp_path, episode + RISING) == []
    assert differences(tmp_path, episode.replace("9°C", "8°C") + RISING)[:2] == [
        "  rising, cellar: info, fired +1m, resolved +3m",
        (
            "- warm, cellar temperature: critical, started +1m, fired +3m, resolved +7m, "
            'warning +3m then critical +4m, "cellar in harbour at –: 8°C, limit 8, warning since 12:01 UTC '
            '(warm, temperature)", notify []'
        ),
    ]


def test_channels_of_the_level_are_compared(tmp_path: Path) -> None:
    episode = "- {level: warning, fired: +2m, resolved: +4m, notify: [OPS]}\n"
    series = '- {sensor: a, metric: temperature, readings: "9 x3, 6 x3"}\n'
    assert differences(tmp_path, episode.replace("OPS", "ops"), series=series, rule="warm") == []
    assert differences(tmp_path, episode.replace("OPS", "duty"), series=series, rule="warm") == [
        "- warm, a: warning, fired +2m, resolved +4m, notify [duty]",
        "+ warm, a: warning, fired +2m, resolved +4m, notify [ops]",
    ]


def test_difference_sets_expected_and_happened_side_by_side_in_order_of_time(tmp_path: Path) -> None:
    late = "- {rule: warm, level: warning, fired: +4m, resolved: +7m}\n"
    assert differences(tmp_path, late + RISING.splitlines(keepends=True)[1]) == [
        "+ rising, cellar temperature: info, started +1m, fired +1m, resolved +3m",
        "  rising, cellar: info, fired +4m, resolved +6m",
        "- warm, cellar: warning, fired +4m, resolved +7m",
        "+ warm, cellar: critical, fired +3m, resolved +7m",
    ]


def test_expected_episode_is_shown_alone_when_it_does_not_happen(tmp_path: Path) -> None:
    series = '- {sensor: a, metric: temperature, readings: "5 x3"}\n'
    assert differences(tmp_path, "- {rule: warm, level: warning, fired: +2m}\n", series=series) == [
        "- warm, a: warning, fired +2m, still firing"
    ]


def test_test_fails_when_an_episode_ends_that_was_expected_to_stay_open(tmp_path: Path) -> None:
    assert differences(tmp_path, "- {level: critical, fired: +3m}\n", rule="warm") == [
        "- warm, cellar: critical, fired +3m, still firing",
        "+ warm, cellar: critical, fired +3m, resolved +7m",
    ]


def test_expectation_with_more_fields_chooses_its_episode_first(tmp_path: Path) -> None:
    any_metric = "- {rule: r, level: info, fired: +0s}\n- {rule: r, metric: t, level: info, fired: +0s}\n"
    (tmp_path / "y.yml").write_text(
        "rules: [{name: r, sensors: {id: a}, levels: {info: {above: 1}}}]\n"
        "tests:\n  - name: a\n    series: [{sensor: a, metric: t, readings: 2}, {sensor: a, metric: u, readings: 2}]\n"
        f"    expect:\n{indent(any_metric, '      ')}"
    )
    (outcome,) = run_rule_tests(read_rule_tests(tmp_path / "y.yml"))
    assert outcome.difference == ()


def test_overrides_and_channels_of_a_folder_are_tested_when_secrets_are_missing(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(
        "version: 1\n"
        "rules:\n"
        "  - name: r\n"
        "    sensors: {metric: t}\n"
        "    levels: {warning: {above: 8}}\n"
        "    overrides: [{sensors: {tags: {kind: oven}}, levels: {warning: {above: 200}}, notify: [duty]}]\n"
        'channels:\n  ops: {type: slack, webhook_url: "${CHANNEL_A}"}\n'
        '  duty: {type: slack, webhook_url: "${CHANNEL_B}"}\n'
    )
    file = tmp_path / "x.txt"
    file.write_text(
        "rules: .\n"
        "tests:\n"
        "  - name: a\n"
        "    series:\n"
        "      - {sensor: fridge, metric: t, readings: 9}\n"
        "      - {sensor: oven, metric: t, tags: {kind: oven}, readings: '9, 201'}\n"
        "    expect:\n"
        "      - {rule: r, sensor: fridge, level: warning, fired: +0s, notify: [ops, duty]}\n"
        "      - {rule: r, sensor: oven, level: warning, fired: +1m, notify: [duty]}\n"
    )
    (outcome,) = run_rule_tests(read_rule_tests(file))
    assert outcome.difference == ()


HELD = """
rules:
  - name: held
    sensors: {metric: t}
    levels: {warning: {above: 8, for: 10m}}
    max_gap: 1h
    holds: true
    when: {metric: door, equals: 0, max_age: 1h, same: [room]}
tests:
  - name: a door that was open
    UNTIL
    series:
      - {sensor: freezer, metric: t, tags: {room: a}, readings: "9"}
      - {sensor: gate, metric: door, tags: {room: a}, readings: "1, 0"}
    expect: EXPECT
"""


@pytest.mark.parametrize(
    ("until", "expect"),
    [("until: +11m", "[{rule: held, sensor: freezer, level: warning, started: +1m, fired: +11m}]"), ("", "[]")],
)
def test_values_are_held_until_the_end_of_the_test(tmp_path: Path, until: str, expect: str) -> None:
    file = tmp_path / "held.yml"
    file.write_text(HELD.replace("UNTIL\n", f"{until}\n" if until else "\n").replace("EXPECT", expect))
    (outcome,) = run_rule_tests(read_rule_tests(file))
    assert outcome.difference == ()


def test_end_before_the_last_reading_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "held.yml"
    file.write_text(HELD.replace("UNTIL", "until: +30s").replace("EXPECT", "[]"))
    with pytest.raises(FileErrors, match='"until" is before the last reading, which is at \\+1m'):
        read_rule_tests(file)
