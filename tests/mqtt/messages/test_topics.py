import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.mqtt.messages.topics import covers, overlap, parse_pattern, widest


@pytest.mark.parametrize(
    ("pattern", "topic", "names"),
    [
        ("tele/{sensor}/SENSOR", "tele/boiler/SENSOR", {"sensor": "boiler"}),
        ("tele/{sensor}/SENSOR", "tele/boiler/STATE", None),
        ("tele/{sensor}/SENSOR", "tele/boiler", None),
        ("tele/{sensor}", "tele/a/b", None),
        ("{site}/+/{sensor}/#", "quay/x/boiler", {"site": "quay", "sensor": "boiler"}),
        ("{site}/+/{sensor}/#", "quay/x/boiler/a/b", {"site": "quay", "sensor": "boiler"}),
        ("#", "a", {}),
        ("#", "$SYS/broker/uptime", None),
        ("{sensor}/uptime", "$SYS/uptime", None),
        ("$SYS/{sensor}", "$SYS/uptime", {"sensor": "uptime"}),
        ("{sensor}", "", {"sensor": ""}),
        ("a//{sensor}", "a//b", {"sensor": "b"}),
    ],
)
def test_pattern_names_the_levels_of_a_topic(pattern: str, topic: str, names: dict[str, str] | None) -> None:
    assert parse_pattern(pattern).match(topic) == names


def test_filter_has_wildcards_in_place_of_names() -> None:
    assert parse_pattern("a/{sensor}/b/{metric}/#").filter == "a/+/b/+/#"


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("a/#/b", '"#" stands for the rest of a topic and must be its last level'),
        ("a/b#", '"#" must be a level by itself, as in "a/#"; got "b#"'),
        ("a+/b", '"+" must be a level by itself, as in "a/+"; got "a+"'),
        ("a/x{sensor}", '"x{sensor}" is no level; a name is a level by itself, in braces'),
        ("a/{my sensor}", '"{my sensor}" is no level'),
        ("a/{}", '"{}" is no level'),
        ("{sensor}/{sensor}", 'two levels are named "sensor"; give each a name of its own'),
        ("a\0", "a topic has at most 65,535 bytes, and no NUL"),
    ],
)
def test_pattern_is_refused_and_says_why(pattern: str, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_pattern(pattern)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("wide", "narrow", "is_covered"),
    [
        ("a/+", "a/b", True),
        ("a/b", "a/+", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/#", "a/+/#", True),
        ("a/+", "a/#", False),
        ("+/b", "a/b", True),
        ("a/b", "a/b/c", False),
        ("#", "a/+", True),
    ],
)
def test_filter_covers_another_that_matches_nothing_else(wide: str, narrow: str, is_covered: bool) -> None:
    assert covers(wide, narrow) is is_covered


@pytest.mark.parametrize(
    ("one", "other", "is_shared"),
    [
        ("a/+/c", "a/b/+", True),
        ("a/+", "b/+", False),
        ("a/#", "a", True),
        ("a/b/#", "a", False),
        ("a/+", "a/b/#", True),
        ("a", "a/b", False),
    ],
)
def test_filters_overlap_when_a_topic_matches_both(one: str, other: str, is_shared: bool) -> None:
    assert overlap(one, other) is is_shared
    assert overlap(other, one) is is_shared


LEVELS = st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=4)
FILTERS = st.builds(lambda levels, tail: "/".join(levels + tail), LEVELS, st.sampled_from([[], ["#"]]))
TOPICS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5).map("/".join)


@given(FILTERS, FILTERS, st.lists(TOPICS, max_size=50))
def test_what_is_said_of_two_filters_holds_for_every_topic(one: str, other: str, topics: list[str]) -> None:
    first, second = parse_pattern(one), parse_pattern(other)
    for topic in topics:
        by_first, by_second = first.match(topic) is not None, second.match(topic) is not None
        assert not (by_first and by_second) or overlap(one, other)
        assert not (covers(one, other) and by_second) or by_first


def test_only_the_widest_filters_are_subscribed_to() -> None:
    assert widest(["a/b", "a/+", "c", "a/+", "c/d"]) == ("a/+", "c", "c/d")
