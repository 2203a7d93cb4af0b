"""The grammar of rule tests: the keys of each mapping, the values that they accept, and their descriptions.

Kinds of values are shared with the grammar of rule files.
"""

from datetime import datetime
from typing import Any

from app.alerting.language.grammar import file_kind
from app.alerting.language.leaves import CHANNEL_NAME, RULE_NAME, TAG_VALUE, TEXT, UPLOADED_NAME
from app.alerting.trials.series_notation import NOTATION_EXAMPLE, parse_notation, parse_offset
from app.clock import MINUTE_US, to_us
from app.durations import format_duration
from app.hints import shown
from app.model import LEVEL_NAMES
from app.yaml_files.kinds import Kind, Leaf, Schema, mismatch
from app.yaml_files.leaves import POSITIVE_DURATION, one_of
from app.yaml_files.lists import ListOf
from app.yaml_files.mappings import Field, Fields, MapOf
from app.yaml_files.nodes import Node, ScalarNode, SequenceNode
from app.yaml_files.problems import ProblemLog

EVERY_US = MINUTE_US


class _RulesKind:
    """The kind of `rules:`, which is a path or a list of rules."""

    def __init__(self) -> None:
        self._rules = file_kind().fields["rules"].kind

    def read(self, node: Node, log: ProblemLog) -> Any:
        """Return the path as text, or a Given for each rule."""
        if isinstance(node, SequenceNode):
            return self._rules.read(node, log)
        if isinstance(node, ScalarNode) and node.meaning == "text":
            return node.text
        raise mismatch("a file or folder, such as ../climate.yml, or a list of rules", node)

    def schema(self, definitions: dict[str, Schema]) -> Schema:
        """Return a schema that accepts both; it refers to the schema of rule files, which is one folder up."""
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
        raise ValueError(f"{shown(scalar.text)} is not between the years 1971 and 2499")
    return to_us(moment)


def _readings(scalar: ScalarNode) -> Any:
    return parse_notation(" ".join(scalar.text.split()))


def _any_text(scalar: ScalarNode) -> str:
    return scalar.text


_OFFSET_SCHEMA: Schema = {"type": "string", "pattern": r"^\+"}
_OFFSET: Kind = Leaf("a time counted from the start, such as +5m", _offset, _OFFSET_SCHEMA)
_READINGS: Kind = Leaf(f"readings, such as {NOTATION_EXAMPLE}", _readings, {"type": ["string", "number"]}, blocks=True)
_START: Kind = Leaf("a time with its zone, such as 2026-01-31T08:00:00Z", _start, {"type": "string"})
_ANY_TEXT: Kind = Leaf("text", _any_text, {"type": "string"}, blocks=True)
_STEPS = Fields(
    "test-steps",
    "{warning: +10m, critical: +12m}",
    {name: Field(_OFFSET, f"when the episode reached the level {name}") for name in LEVEL_NAMES},
    also={"minProperties": 1},
)

_SERIES = Fields(
    "test-series",
    '{sensor: cellar, metric: temperature, readings: "20 x5, 31 x12"}',
    {
        "sensor": Field(UPLOADED_NAME, "the sensor's name", required=True),
        "metric": Field(UPLOADED_NAME, "the metric's name", required=True),
        "readings": Field(_READINGS, f"the readings, such as {NOTATION_EXAMPLE}", required=True),
        "tags": Field(MapOf(TAG_VALUE, "a mapping, such as {room: cold}"), "the sensor's tags"),
        "gateway": Field(UPLOADED_NAME, "the gateway that uploads the sensor's readings"),
        "unit": Field(TEXT, "the unit that the sensor reports"),
        "every": Field(POSITIVE_DURATION, "the time between two readings; left out: as for the test"),
    },
)
_EXPECTED = Fields(
    "test-expected",
    "{rule: temperature-high, level: warning, fired: +15m, resolved: +25m}",
    {
        "rule": Field(RULE_NAME, "the rule that makes the episode; left out: the test's rule"),
        "sensor": Field(UPLOADED_NAME, "the sensor of the episode; left out: the only sensor of the test"),
        "metric": Field(UPLOADED_NAME, "the metric of the episode; left out: any"),
        "level": Field(one_of(LEVEL_NAMES), "the last level of the episode"),
        "steps": Field(_STEPS, "when the episode reached each level"),
        "started": Field(_OFFSET, "since when the value had been past the limit"),
        "fired": Field(_OFFSET, "when the episode fired", required=True),
        "resolved": Field(_OFFSET, "when the episode ended; left out: it is still firing"),
        "message": Field(_ANY_TEXT, "the text of the rule's message when the episode fires"),
        "notify": Field(
            ListOf(CHANNEL_NAME, "a list of channels, such as [ops-telegram]"),
            "the channels that messages of the last level are sent to",
        ),
    },
)
_TEST = Fields(
    "test",
    "{name: a warm hour fires, series: […], expect: […]}",
    {
        "name": Field(TEXT, "what the test shows", required=True),
        "rule": Field(RULE_NAME, "the only rule under test; left out: all"),
        "start": Field(_START, "the time of the first reading; left out: 2026-01-01T00:00:00Z"),
        "every": Field(POSITIVE_DURATION, f"the time between two readings; left out: {format_duration(EVERY_US)}"),
        "until": Field(
            _OFFSET, "how far values are held, for rules with holds: true; left out: until the last reading"
        ),
        "series": Field(ListOf(_SERIES, "a list of series", least=1), "the readings", required=True),
        "expect": Field(
            ListOf(_EXPECTED, "a list of episodes"),
            "all episodes that the rules make of the readings; []: none",
            required=True,
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
