import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from ruamel.yaml import YAML

from app.alerting.conditions import CONDITIONS
from app.alerting.language.channels import ChannelFields
from app.alerting.language.schema import encode_rule_schema, rule_schema
from tests.alerting.rule_texts import FULL, rule, rule_documents

# jsonschema is installed with check-jsonschema. It has no types.
Draft7Validator: Any = importlib.import_module("jsonschema").Draft7Validator

SHIPPED = Path(__file__).parents[3] / "rules"
VALIDATOR = Draft7Validator(rule_schema())


def faults(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(YAML(typ="safe", pure=True).load(text))]


def test_shipped_schema_is_up_to_date() -> None:
    assert (SHIPPED / "schema.json").read_bytes() == encode_rule_schema(rule_schema()), "run make schema"


def test_schema_is_valid_json_schema() -> None:
    Draft7Validator.check_schema(rule_schema())


@pytest.mark.parametrize(
    "file", sorted([*SHIPPED.glob("*.yml"), SHIPPED / "channels.yml.example"]), ids=lambda file: file.name
)
def test_shipped_file_is_accepted_and_names_the_schema(file: Path) -> None:
    assert file.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    assert faults(file.read_text()) == []


def test_documented_rule_is_accepted() -> None:
    assert faults(FULL) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "version: 2",
        "version: 1\nrule: []",
        rule("levels: {}"),
        rule("levels: {warning: {for: 5m}}"),
        rule("levels: {warning: {above: 8, below: 3}}"),
        rule("levels: {warning: {above: '8'}}"),
        rule("levels: {warning: {outside: [8]}}"),
        rule("levels: {fatal: {above: 8}}"),
        rule("levels: {warning: {above: 8, for: 10}}"),
        rule("levels: {warning: {above: 8}}\nvalue: avg"),
        rule("levels: {warning: {above: 8}}\nmute: [{from: '8:00'}]"),
        rule("levels: {warning: {above: 8}}\nremind_every: no"),
        rule("levels: {warning: {above: 8}}\noverrides: [{sensors: {id: x}}]"),
        "version: 1\nchannels: {a: {type: slack, webhook_url: 'https://x'}}",
        "version: 1\nchannels: {a: {type: pigeon}}",
    ],
)
def test_schema_refuses_what_the_reader_refuses(wrong: str) -> None:
    assert faults(wrong) != []


def test_schema_describes_every_condition() -> None:
    level = rule_schema()["definitions"]["level"]
    assert set(CONDITIONS) <= set(level["properties"])
    assert all(field["description"] for field in level["properties"].values())


def test_schema_describes_the_given_channels() -> None:
    schema = rule_schema({"pigeon": ChannelFields(required=frozenset({"loft"}), optional=frozenset({"pin_token"}))})
    assert schema["definitions"]["channel-pigeon"] == {
        "type": "object",
        "properties": {
            "type": {"description": "the type of channel", "enum": ["pigeon"]},
            "loft": {"description": "a setting of pigeon", "type": ["string", "number"]},
            "pin_token": {
                "description": 'a secret of pigeon, written as "${NAME}" and set in the environment',
                "type": "string",
                "pattern": "\\$\\{([A-Za-z_][A-Za-z0-9_]*)\\}",
            },
        },
        "additionalProperties": False,
        "required": ["type", "loft"],
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rule_documents)
def test_schema_accepts_valid_rules(document: dict[str, Any]) -> None:
    errors = [error.message for error in VALIDATOR.iter_errors(json.loads(json.dumps(document)))]
    assert errors == []
