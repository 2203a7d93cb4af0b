"""References to secrets: a channel's field holds `${NAME}`, and only the environment holds the value."""

import re
from collections.abc import Iterator, Mapping

from app.alerting.rules.model import FieldValue
from app.errors import AppError

REFERENCE_PATTERN = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"

#: Fields and headers with such names must not have their values in a file or in the database.
_SECRET_NAME = re.compile(r"token|secret|password|webhook_url|authorization|cookie|api.?key", re.IGNORECASE)
_REFERENCE = re.compile(REFERENCE_PATTERN)


class MissingSecretError(AppError):
    """A channel refers to environment variables that are not set or are empty."""

    code = "missing_secret"
    title = "A secret is missing"

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"set the environment variable {' and '.join(names)}")
        self.names = names


def resolve_fields(fields: Mapping[str, FieldValue], environ: Mapping[str, str]) -> dict[str, FieldValue]:
    """Return a channel's fields with each reference replaced by its value.

    Raise MissingSecretError, which names every variable that is not set or is empty.
    """
    if missing := missing_secrets(fields, environ):
        raise MissingSecretError(missing)
    return {name: _resolve(value, environ) for name, value in fields.items()}


def missing_secrets(fields: Mapping[str, FieldValue], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the variables that the fields refer to and that are not set or are empty, each name once."""
    names = (name for text in _texts(fields) for name in references(text))
    return tuple(dict.fromkeys(name for name in names if not environ.get(name)))


def is_secret(field: str) -> bool:
    """Return whether the value of a field or header of this name is a secret, which must be a reference."""
    return _SECRET_NAME.search(field) is not None


def references(text: str) -> tuple[str, ...]:
    """Return the names of the environment variables that a text refers to as `${NAME}`."""
    return tuple(_REFERENCE.findall(text))


def reference_fault(text: str) -> str | None:
    """Return what is wrong with a text's references, or None."""
    if "${" in _REFERENCE.sub("", text):
        return 'a "${" is not followed by a variable\'s name and "}"; write "${NAME}"'
    return None


def _texts(fields: Mapping[str, FieldValue]) -> Iterator[str]:
    for value in fields.values():
        yield from (value,) if isinstance(value, str) else value.values()


def _resolve(value: FieldValue, environ: Mapping[str, str]) -> FieldValue:
    if isinstance(value, str):
        return _fill_in(value, environ)
    return {name: _fill_in(text, environ) for name, text in value.items()}


def _fill_in(text: str, environ: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda reference: environ[reference[1]], text)
