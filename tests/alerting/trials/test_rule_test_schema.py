import importlib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from app.alerting.language.schema import encode_rule_schema
from app.alerting.trials.rule_test_schema import rule_test_schema

# jsonschema is installed with check-jsonschema. It has no types.
Draft7Validator: Any = importlib.import_module("jsonschema").Draft7Validator

TESTS = Path(__file__).parents[3] / "rules" / "tests"
VALIDATOR = Draft7Validator(rule_test_schema())


def faults(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(YAML(typ="safe", pure=True).load(text))]


def test_shipped_schema_is_up_to_date() -> None:
    assert (TESTS / "schema.json").read_bytes() == encode_rule_schema(rule_test_schema()), "run make schema"


@pytest.mark.parametrize("file", sorted(TESTS.glob("*.yml")), ids=lambda file: file.name)
def test_shipped_file_is_accepted(file: Path) -> None:
    assert faults(file.read_text()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("tests: []", "[] should be non-empty"),
        ("test: []", "Additional properties are not allowed ('test' was unexpected)"),
        ("tests: [{name: a, series: [], expect: []}]", "[] should be non-empty"),
        ("tests: [{name: a, series: [{sensor: s, metric: m}], expect: []}]", "'readings' is a required property"),
    ],
)
def test_schema_refuses_what_the_reader_refuses(wrong: str, said: str) -> None:
    assert said in faults(f"rules: ../climate.yml\n{wrong}\n")
