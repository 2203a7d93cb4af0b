"""The language of rule tests: which keys stand where, and what they accept; it takes what it can from that of rules."""

from datetime import datetime
from typing import Any

from app.alerting.language.grammar import file_kind
from app.alerting.language.kinds import Field, Fields, Kind, Leaf, ListOf, MapOf, Schema, unlike
from app.alerting.language.leaves import CHANNEL_NAME, LABEL, POSITIVE_DURATION, RULE_NAME, TAG_VALUE, TEXT, one_of
from app.alerting.language.yaml_nodes import Node, ScalarNode, SequenceNode
from app.alerting.rules.problems import ProblemLog
from app.alerting.trials.series_notation import NOTATION_EXAMPLE, parse_notation, parse_offset
from app.clock import MINUTE_US, to_us
from app.durations import format_duration
from app.hints import shown
from app.model import LEVEL_NAMES

EVERY_US = MINUTE_US


class _RulesKind:
    """A path, or the rules themselves."""

    def __init__(self) -> None:
        self._rules = file_kind().fields["rules"].kind

    def read(self, node: Node, log: ProblemLog) -> Any:
        """Give the path as text, or a Given for each rule."""
        if isinstance(node, SequenceNode):
            return self._rules.read(node, log)
        if isinstance(node, ScalarNode) and node.meaning == "text":
            return node.text
        raise unlike("a file or folder, such as ../climate.yml, or a list of rules", node)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Describe both; the schema of rule files lies one folder up."""
        rules: Schema = {"type": "array", "items": {"$ref": "../schema.json#/definitions/rule"}}
        return {"anyOf": [{"type": "string", "minLength": 1}, rules]}


def _offset(scalar: ScalarNode) -> int:
    return parse_offset(scalar.text)


def _start(scalar: ScalarNode) -> int:
    try:
        moment = datetime.fromisoformat(scalar.text)
    except ValueError:
        raise ValueError(f"{shown(scalar.text)} is not a time; write one such as 2026-01-31T08:00:00Z") from None
    if moment.tzinfo is None:
        raise ValueError(f"{shown(scalar.text)} has no zone; write a time such as 2026-01-31T08:00:00Z")
    if not 1970 < moment.year < 2500:
        raise ValueError(f"{shown(scalar.text)} is not of this age")
    return to_us(moment)


def _readings(scalar: ScalarNode) -> Any:
    return parse_notation(" ".join(scalar.text.split()))


def _words(scalar: ScalarNode) -> str:
    return scalar.text


_OFFSET_SCHEMA: Schema = {"type": "string", "pattern": r"^\+"}
_OFFSET: Kind = Leaf("a time from the start, such as +5m", _offset, _OFFSET_SCHEMA)
_READINGS: Kind = Leaf(f"readings, such as {NOTATION_EXAMPLE}", _readings, {"type": ["string", "number"]}, blocks=True)
_START: Kind = Leaf("a time with its zone, such as 2026-01-31T08:00:00Z", _start, {"type": "string"})
_WORDS: Kind = Leaf("text", _words, {"type": "string"}, blocks=True)
_STEPS = Fields(
    "test-steps",
    "{warning: +10m, critical: +12m}",
    {name: Field(_OFFSET, f"when it reached {name}") for name in LEVEL_NAMES},
    also={"minProperties": 1},
)

_SERIES = Fields(
    "test-series",
    '{sensor: cellar, metric: temperature, readings: "20 x5, 31 x12"}',
    {
        "sensor": Field(LABEL, "the sensor's name", required=True),
        "metric": Field(LABEL, "what it measures", required=True),
        "readings": Field(_READINGS, f"the readings, such as {NOTATION_EXAMPLE}", required=True),
        "tags": Field(MapOf(TAG_VALUE, "a mapping, such as {room: cold}"), "the sensor's tags"),
        "gateway": Field(LABEL, "the gateway that sends it"),
        "unit": Field(TEXT, "the unit that the sensor reports"),
        "every": Field(POSITIVE_DURATION, "the time between two readings; left out: the test's"),
    },
)
_EXPECTED = Fields(
    "test-expected",
    "{rule: temperature-high, level: warning, fired: +15m, resolved: +25m}",
    {
        "rule": Field(RULE_NAME, "whose episode it is; left out: the test's rule"),
        "sensor": Field(LABEL, "whose readings made it; left out: the only sensor"),
        "metric": Field(LABEL, "which of the sensor's series; left out: any"),
        "level": Field(one_of(LEVEL_NAMES), "the level that it has in the end"),
        "steps": Field(_STEPS, "when it reached each level"),
        "started": Field(_OFFSET, "since when the value had been past the limit"),
        "fired": Field(_OFFSET, "when it fired", required=True),
        "resolved": Field(_OFFSET, "when it ended; left out: it has not"),
        "message": Field(_WORDS, "the rule's message as it fires"),
        "notify": Field(ListOf(CHANNEL_NAME, "a list of channels, such as [ops-telegram]"), "who is told of the level"),
    },
)
_TEST = Fields(
    "test",
    "{name: a warm hour fires, series: […], expect: […]}",
    {
        "name": Field(TEXT, "what the test shows", required=True),
        "rule": Field(RULE_NAME, "the only rule to look at; left out: all"),
        "start": Field(_START, "when it begins; left out: 2026-01-01T00:00:00Z"),
        "every": Field(POSITIVE_DURATION, f"the time between two readings; left out: {format_duration(EVERY_US)}"),
        "series": Field(ListOf(_SERIES, "a list of series", least=1), "the readings", required=True),
        "expect": Field(
            ListOf(_EXPECTED, "a list of episodes"), "all episodes that they make; []: none", required=True
        ),
    },
)
TEST_FILE = Fields(
    "test-file",
    "{rules: ../climate.yml, tests: […]}",
    {
        "rules": Field(_RulesKind(), "the rules under test: a file, a folder, or a list of rules", required=True),
        "tests": Field(ListOf(_TEST, "a list of tests", least=1), "the tests", required=True),
    },
)
