"""Answers in CSV: which requests get one, and the answer itself with the file name that browsers save it under."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from litestar import Request, Response
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from app.csv_text import encode_rows
from app.errors import InvalidRequestError

JSON, CSV = "application/json", "text/csv"


def wants_csv(request: Request[Any, Any, Any], format_: str | None) -> bool:
    """Return whether a request gets CSV: by `format`, or else by its header Accept. Raises InvalidRequestError."""
    if format_ is None:
        try:
            return request.accept.best_match([JSON, CSV], JSON) == CSV
        except ValueError:
            return False
    if format_ not in ("json", "csv"):
        raise InvalidRequestError(f"format is {format_!r:.60}; send json or csv")
    return format_ == "csv"


def answer_csv(
    name: str, start: datetime, end: datetime, rows: Iterable[Sequence[object]], headers: dict[str, str]
) -> Response[Any]:
    """Return rows, the first of which are the names of the columns, as a file with the range in its name."""
    file_name = f"tidegauge-{name}-{start:%Y%m%dT%H%M%SZ}-{end:%Y%m%dT%H%M%SZ}.csv"
    return Response(
        encode_rows(rows),
        media_type=f"{CSV}; header=present",
        headers={"Content-Disposition": f'attachment; filename="{file_name}"', **headers},
    )


@dataclass
class OperationWithCsv(Operation):
    """An operation whose answer may be CSV, which Litestar cannot derive."""

    def __post_init__(self) -> None:
        """Add the media type to the answer."""
        answer = (self.responses or {}).get("200")
        if isinstance(answer, OpenAPIResponse) and answer.content is not None:
            answer.content[CSV] = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))
