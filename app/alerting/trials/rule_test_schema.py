"""JSON Schema of rule tests, for editors; `make schema` writes it to rules/tests/schema.json."""

from pathlib import Path
from typing import Any

from app.alerting.language.schema import DIALECT, encode_rule_schema
from app.alerting.trials.rule_test_grammar import TEST_FILE


def rule_test_schema() -> dict[str, Any]:
    """Return the schema of a file of tests; for the rules in it, the schema refers to that of rule files."""
    definitions: dict[str, Any] = {}
    TEST_FILE.schema(definitions)
    file = definitions.pop(TEST_FILE.name)
    return {"$schema": DIALECT, "title": "Unit tests of Tidegauge rules", **file, "definitions": definitions}


if __name__ == "__main__":
    Path("rules/tests/schema.json").write_bytes(encode_rule_schema(rule_test_schema()))
