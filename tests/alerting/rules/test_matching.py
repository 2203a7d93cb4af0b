import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.episodes.machine import Level, SeriesRule
from app.alerting.episodes.samples import ValueOf
from app.alerting.language.files import parse_rules
from app.alerting.rules import matching
from app.alerting.rules.matching import RuleBook, compile_rule, terms_for
from app.alerting.rules.model import Rule, RuleSet
from tests.alerting.rule_texts import ENVIRON, FULL, as_yaml, rule, rule_documents

COLD = {"room": "cold", "site": "Kiel"}


def parse_rule(selector: str, rest: str = "levels: {warning: {above: 8}}") -> Rule:
    text = f"version: 1\nrules:\n  - name: r\n    sensors: {selector}\n    {rest}\n"
    return parse_rules({"x.yml": text}, {}).rules[0]


def applies(selector: str, sensor: str = "s1", metric: str = "m", gateway: str | None = None, **tags: str) -> bool:
    read = parse_rule(selector)
    found = RuleBook(RuleSet((read,))).matches(sensor, metric, tags, gateway)
    assert bool(found) is (compile_rule(read, sensor, metric, tags, gateway) is not None)
    return bool(found)


def test_names_are_read_as_those_in_uploads() -> None:
    """Editors and gateways may write another form of Unicode; tags are stored as they are sent."""
    selector = '{id: " étuve*", metric: "chaleur ", gateway: "bâtiment", tags: {room: "é"}}'
    known = {"sensor": "étuve 1", "metric": "chaleur", "gateway": "bâtiment"}
    assert applies(selector, **known, room="é")
    assert not applies(selector, **known, room="é")


@pytest.mark.parametrize(
    ("glob", "sensor", "fits"),
    [
        ("freezer-*", "freezer-3", True),
        ("freezer-*", "freezer-", True),
        ("freezer-*", "my-freezer-3", False),
        ("freezer-?", "freezer-3", True),
        ("freezer-?", "freezer-33", False),
        ("*", "anything", True),
        ("pi1,cpu=cpu?", "pi1,cpu=cpu0", True),
        ("a[1]", "a[1]", True),
        ("a[1]*", "a[1]b", True),
        ("a[1]*", "a1b", False),
        ("a.b", "aXb", False),
        ("a.*", "aXb", False),
        ("Freezer", "freezer", False),
        ("a\\*b", "a\\zb", True),
        ("*x", "a\nx", True),
    ],
)
def test_id_treats_only_stars_and_question_marks_as_wildcards(glob: str, sensor: str, fits: bool) -> None:
    read = parse_rules(
        {
            "x.yml": as_yaml(
                {"version": 1, "rules": [{"name": "r", "sensors": {"id": glob}, "levels": {"info": {"above": 1}}}]}
            )
        },
        {},
    )
    assert bool(RuleBook(read).matches(sensor, "m", {}, None)) is fits


def test_id_is_matched_quickly_when_the_pattern_has_many_stars() -> None:
    book = RuleBook(RuleSet((parse_rule('{id: "' + "*a" * 40 + 'b"}'),)))
    started = time.monotonic()
    assert book.matches("a" * 5_000, "m", {}, None) == ()
    assert time.monotonic() - started < 2


def test_selector_applies_when_every_given_field_matches() -> None:
    assert applies("{metric: m}")
    assert not applies("{metric: other}")
    assert applies("{gateway: g}", gateway="g")
    assert not applies("{gateway: g}", gateway=None)
    assert applies("{tags: {room: cold}}", room="cold", site="Kiel")
    assert not applies("{tags: {room: cold}}", room="warm")
    assert not applies("{tags: {room: cold}}")
    assert applies("{tags: {floor: 3}}", floor="3")
    assert not applies("{id: s1, metric: m, gateway: g}", gateway="h")


def test_compile_rule_returns_the_terms_of_the_series_with_its_override() -> None:
    (read,) = parse_rules({"x.yml": FULL}, ENVIRON).rules
    assert compile_rule(read, "fridge", "temperature", COLD, None) == SeriesRule(
        value=ValueOf("last", 0),
        levels=(Level("warning", Above(8.0), 600_000_000), Level("critical", Above(12.0), 120_000_000)),
        clear=Below(7.0),
        clear_for_us=300_000_000,
        max_gap_us=300_000_000,
    )
    assert compile_rule(read, "freezer-3", "temperature", COLD, None) == SeriesRule(
        value=ValueOf("last", 0),
        levels=(Level("warning", Above(-15.0), 600_000_000), Level("critical", Above(-10.0), 120_000_000)),
        clear=Below(-16.0),
        clear_for_us=300_000_000,
        max_gap_us=300_000_000,
    )
    assert compile_rule(read, "fridge", "temperature", {"room": "warm"}, None) is None


def test_matches_use_the_first_override_that_applies() -> None:
    read = parse_rule(
        "{metric: m}",
        "levels: {warning: {above: 8}}\n"
        "    overrides:\n"
        "      - {sensors: {id: s1, tags: {a: x}}, max_gap: 1m}\n"
        '      - {sensors: {id: "s*"}, max_gap: 2m}\n'
        "      - {sensors: {gateway: g}, max_gap: 3m}",
    )
    series = [("s1", {"a": "x"}, None), ("s1", {}, "g"), ("t1", {"a": "x"}, "g"), ("t1", {}, None)]
    book = RuleBook(RuleSet((read,)))
    gaps = [book.matches(sensor, "m", tags, gateway)[0].terms.max_gap_us for sensor, tags, gateway in series]
    assert gaps == [60_000_000, 120_000_000, 180_000_000, None]


def test_matches_come_in_the_order_of_the_rules() -> None:
    texts = [("c", "{id: s}"), ("a", "{metric: m}"), ("b", '{id: "*"}'), ("d", "{metric: other}")]
    rules = "".join(
        f"  - {{name: {name}, sensors: {selector}, levels: {{info: {{above: 1}}}}}}\n" for name, selector in texts
    )
    book = RuleBook(parse_rules({"x.yml": f"version: 1\nrules:\n{rules}"}, {}))
    assert [match.rule.name for match in book.matches("s", "m", {}, None)] == ["c", "a", "b"]


def hash_of(rest: str) -> str:
    return RuleBook(RuleSet((parse_rule("{metric: m}", rest),))).matches("s", "m", {}, None)[0].rule_hash


def test_rule_hash_stays_when_only_messages_and_notification_settings_change() -> None:
    before = hash_of("levels: {warning: {above: 8, for: 10m}}")
    assert before == hash_of(
        "levels: {warning: {above: 8.0, for: 600s, notify: []}}\n    unit: K\n    message: x\n    notify: []\n"
        "    no_data: {after: 5m}\n    late_data: {accept: 1h}\n    mute: [{days: [sat]}]"
    )
    # The hash is stored: another hash after an upgrade would restart every clock.
    assert len(before) == 64


@pytest.mark.parametrize(
    "rest",
    [
        "levels: {warning: {above: 9, for: 10m}}",
        "levels: {warning: {below: 8, for: 10m}}",
        "levels: {error: {above: 8, for: 10m}}",
        "levels: {warning: {above: 8, for: 11m}}",
        "levels: {warning: {above: 8, for: 10m}, error: {above: 9}}",
        "levels: {warning: {above: 8, for: 10m}}\n    value: avg 5m",
        "levels: {warning: {above: 8, for: 10m}}\n    clear: {below: 7}",
        "levels: {warning: {above: 8, for: 10m}}\n    clear: {for: 1m}",
        "levels: {warning: {above: 8, for: 10m}}\n    max_gap: 5m",
    ],
)
def test_rule_hash_changes_when_value_levels_clear_or_max_gap_change(rest: str) -> None:
    assert hash_of(rest) != hash_of("levels: {warning: {above: 8, for: 10m}}")


def test_matches_of_different_series_share_one_compiled_match() -> None:
    book = RuleBook(RuleSet((parse_rule("{metric: m}"),)))
    (one,), (other,) = book.matches("s1", "m", {"a": "x"}, None), book.matches("s2", "m", {}, "g")
    assert one is other


def test_matches_stay_right_when_the_cache_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "CACHE_SIZE", 3)
    book = RuleBook(RuleSet((parse_rule("{tags: {n: 4}}"),)))
    assert [len(book.matches("s", "m", {"n": str(n % 8)}, None)) for n in range(24)] == [0, 0, 0, 0, 1, 0, 0, 0] * 3


def test_ten_thousand_series_are_matched_with_a_hundred_rules_in_time() -> None:
    rules = "".join(rule(f"levels: {{info: {{above: {n}}}}}", f"r{n}").partition("rules:\n")[2] for n in range(100))
    book = RuleBook(parse_rules({"x.yml": f"version: 1\nrules:\n{rules}"}, {}))
    started = time.monotonic()
    found = sum(
        len(book.matches(f"s{n}", f"m{n % 50}" if n % 10 else "temperature", {"room": str(n % 100)}, f"g{n % 20}"))
        for n in range(10_000)
    )
    assert found == 100_000
    assert time.monotonic() - started < 10


_labels = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["x", "y"]), max_size=2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rule_documents, st.lists(st.tuples(st.sampled_from(["m", "n"]), _labels), max_size=6), st.data())
def test_rule_book_agrees_with_terms_for_when_rules_are_random(
    document: dict[str, Any], labels: list[tuple[str, dict[str, str]]], data: st.DataObject
) -> None:
    read = parse_rules({"x.yml": as_yaml(document)}, {"CHANNEL_HOOK": "x"})
    book = RuleBook(read)
    selectors = [
        selector for one in read.rules for selector in (one.sensors, *(each.sensors for each in one.overrides))
    ]
    names = st.sampled_from([*(selector.id for selector in selectors if selector.id), "other"])
    for metric, tags in [*labels, *((one.metric or "m", one.tags) for one in selectors)]:
        sensor = data.draw(names)
        gateway = data.draw(st.sampled_from([None, *(one.gateway for one in selectors)]))
        expected = [terms_for(one, sensor, metric, tags, gateway) for one in read.rules]
        found = book.matches(sensor, metric, tags, gateway)
        assert [match.terms for match in found] == [terms for terms in expected if terms is not None]
