"""JSON Schema of rule files, for editors; `make schema` writes it to rules/schema.json.

It says what the tables of the language say. What only reading tells (order, names, contradictions) is left to
`tidegauge check`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from app.alerting.language.channels import ChannelFields
from app.alerting.language.grammar import file_kind

#: Draft 7 is what all editors know.
DIALECT = "http://json-schema.org/draft-07/schema#"


def rule_schema(channel_fields: Mapping[str, ChannelFields] | None = None) -> dict[str, Any]:
    """Describe one rule file."""
    definitions: dict[str, Any] = {}
    kind = file_kind(channel_fields)
    kind.schema(definitions)
    file = definitions.pop(kind.name)
    return {"$schema": DIALECT, "title": "Tidegauge rules and channels", **file, "definitions": definitions}


def encode_rule_schema(schema: Mapping[str, Any]) -> bytes:
    """Write a schema as it is kept in rules/, for people to read."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"


if __name__ == "__main__":
    Path("rules/schema.json").write_bytes(encode_rule_schema(rule_schema()))
