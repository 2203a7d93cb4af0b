"""JSON Schema of rule files, for editors; `make schema` writes it to rules/schema.json.

The schema is derived from the tables in `grammar.py`. It cannot express the order of levels, the use of names and
contradictions; `tidegauge check` finds those.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from app.alerting.language.channels import ChannelFields
from app.alerting.language.grammar import file_kind

#: The newest draft that all editors support.
DIALECT = "http://json-schema.org/draft-07/schema#"


def rule_schema(channel_fields: Mapping[str, ChannelFields] | None = None) -> dict[str, Any]:
    """Return the schema of a rule file."""
    definitions: dict[str, Any] = {}
    kind = file_kind(channel_fields)
    kind.schema(definitions)
    file = definitions.pop(kind.name)
    return {"$schema": DIALECT, "title": "Tidegauge rules and channels", **file, "definitions": definitions}


def encode_rule_schema(schema: Mapping[str, Any]) -> bytes:
    """Return a schema as the indented JSON that is kept in rules/."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2) + b"\n"


if __name__ == "__main__":
    Path("rules/schema.json").write_bytes(encode_rule_schema(rule_schema()))
