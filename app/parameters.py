"""Query parameters that several domains share, and the check of texts that clients send."""

from typing import Annotated

from litestar.params import QueryParameter

from app.errors import InvalidRequestError
from app.names import is_storable, tidy_name

PageLimit = Annotated[int, QueryParameter(name="limit", ge=1, le=1_000, description="Items a page")]
PageCursor = Annotated[str | None, QueryParameter(name="cursor", description="The `next` of the page before")]

#: Longest name or pattern, in characters.
NAME_LENGTH = 200


def read_name(field: str, text: str) -> str:
    """Return a name, or a pattern of names, as names are stored; raise InvalidRequestError.

    For a sensor's name, the function `find_sensor` of the database does it: there, it may be an old one.
    """
    return tidy_name(check_text(field, text))


def check_text(name: str, text: str, longest: int = NAME_LENGTH) -> str:
    """Return a text that PostgreSQL can store and that is not too long; raise InvalidRequestError otherwise."""
    if len(text) > longest and len(tidy_name(text)) > longest:
        raise InvalidRequestError(f"{name} has {len(text):,} characters; give at most {longest:,}")
    if "\0" in text:
        raise InvalidRequestError(f"{name} is {text!r:.60}; leave out the NUL character")
    if not is_storable(text):
        raise InvalidRequestError(f"{name} is {text!r:.60}; leave out half a surrogate pair")
    return text
