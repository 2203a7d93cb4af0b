"""What requests about alerts are asked for, and what they are refused with."""

from typing import Annotated

from litestar.params import QueryParameter

from app.errors import InvalidRequestError
from app.parameters import check_text
from app.problems import problem_response

PROBLEMS = {
    400: problem_response("A parameter or the body has a value that cannot be used"),
    401: problem_response("Missing or unknown API key"),
    403: problem_response("The key lacks the scope"),
    404: problem_response("No such alert or silence"),
}
RuleName = Annotated[str | None, QueryParameter(description="Only this rule")]
SensorName = Annotated[str | None, QueryParameter(description="Only this sensor")]


def check_name(name: str, text: str) -> None:
    """Refuse a text that does not name anybody or anything, too."""
    check_text(name, text)
    if not text.strip():
        raise InvalidRequestError(f"{name} is empty")
