"""Secrets of channels: `${NAME}` in a rule file, its value only in the environment and in memory."""

import re
from collections.abc import Iterator, Mapping

from app.alerting.rules.model import FieldValue
from app.errors import AppError

REFERENCE_PATTERN = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"

#: Fields and headers that hold what nobody should read in a file or a database.
_SECRET_NAME = re.compile(r"token|secret|password|webhook_url|authorization|cookie|api.?key", re.IGNORECASE)
_REFERENCE = re.compile(REFERENCE_PATTERN)


class MissingSecretError(AppError):
    """A channel refers to environment variables that are not set, or empty."""

    code = "missing_secret"
    title = "A secret is missing"

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"set the environment variable {' and '.join(names)}")
        self.names = names


def resolve_fields(fields: Mapping[str, FieldValue], environ: Mapping[str, str]) -> dict[str, FieldValue]:
    """Put the secrets into a channel's fields; MissingSecretError names every variable that is not set."""
    if missing := missing_secrets(fields, environ):
        raise MissingSecretError(missing)
    return {name: _resolved(value, environ) for name, value in fields.items()}


def missing_secrets(fields: Mapping[str, FieldValue], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Name the variables that fields refer to and that are not set or empty, each once."""
    names = (name for text in _texts(fields) for name in references(text))
    return tuple(dict.fromkeys(name for name in names if not environ.get(name)))


def is_secret(field: str) -> bool:
    """Say whether a field's or header's name is one of a secret, which must come from the environment."""
    return _SECRET_NAME.search(field) is not None


def references(text: str) -> tuple[str, ...]:
    """Name the environment variables that a text refers to as `${NAME}`."""
    return tuple(_REFERENCE.findall(text))


def reference_fault(text: str) -> str | None:
    """Say what is wrong with a text's references, or None."""
    if "${" in _REFERENCE.sub("", text):
        return 'a "${" is not followed by a variable\'s name and "}"; write "${NAME}"'
    return None


def _texts(fields: Mapping[str, FieldValue]) -> Iterator[str]:
    for value in fields.values():
        yield from (value,) if isinstance(value, str) else value.values()


def _resolved(value: FieldValue, environ: Mapping[str, str]) -> FieldValue:
    if isinstance(value, str):
        return _filled(value, environ)
    return {name: _filled(text, environ) for name, text in value.items()}


def _filled(text: str, environ: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda reference: environ[reference[1]], text)
