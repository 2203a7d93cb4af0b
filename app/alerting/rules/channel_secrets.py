"""References to secrets: a channel's field holds `${NAME}`, and only the environment holds the value."""

import re
from collections.abc import Iterator, Mapping

from app.alerting.rules.model import FieldValue
from app.errors import AppError
from app.settings import CHANNEL_PREFIX, CHANNEL_VARIABLES, is_channel_variable

REFERENCE_PATTERN = r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}"

#: Fields and headers with such names must not have their values in a file or in the database.
_SECRET_NAME = re.compile(r"token|secret|password|webhook_url|authorization|cookie|(api|routing).?key", re.IGNORECASE)
_REFERENCE = re.compile(REFERENCE_PATTERN)


class MissingSecretError(AppError):
    """A channel refers to environment variables that are not set or are empty."""

    code = "missing_secret"
    title = "A secret is missing"

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"set the environment variable {' and '.join(names)}")
        self.names = names


class ForbiddenReferenceError(AppError):
    """A channel refers to an environment variable that is not meant for channels, such as a key of the server."""

    code = "forbidden_reference"
    title = "A channel may not use this variable"


def resolve_fields(fields: Mapping[str, FieldValue], environ: Mapping[str, str]) -> dict[str, FieldValue]:
    """Return a channel's fields with each reference replaced by its value.

    Raise MissingSecretError, which names every variable that is not set or is empty, and ForbiddenReferenceError.
    """
    # Also here, because the rules in force may have been stored by a version that allowed every variable.
    for text in _texts(fields):
        if fault := reference_fault(text):
            raise ForbiddenReferenceError(fault)
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
    for name in references(text):
        if not is_channel_variable(name):
            return (
                f'channels may not use "${{{name}}}": set {channel_variable(name)} in the environment in its place and '
                f'write "${{{channel_variable(name)}}}" (accepted: {", ".join(CHANNEL_VARIABLES)} and names that begin '
                f"with {CHANNEL_PREFIX})"
            )
    return None


def channel_variable(name: str) -> str:
    """Return the name under which channels may use a variable of this name."""
    return name if is_channel_variable(name) else f"{CHANNEL_PREFIX}{name}"


def _texts(fields: Mapping[str, FieldValue]) -> Iterator[str]:
    for value in fields.values():
        yield from (value,) if isinstance(value, str) else value.values()


def _resolve(value: FieldValue, environ: Mapping[str, str]) -> FieldValue:
    if isinstance(value, str):
        return _fill_in(value, environ)
    return {name: _fill_in(text, environ) for name, text in value.items()}


def _fill_in(text: str, environ: Mapping[str, str]) -> str:
    return _REFERENCE.sub(lambda reference: environ[reference[1]], text)
