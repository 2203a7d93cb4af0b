"""Errors as RFC 9457 problem details: the form of every error, except where a replaced service has its own."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, InternalServerException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.status_codes import HTTP_500_INTERNAL_SERVER_ERROR

from app.errors import AppError, ClientGoneError, DatabaseUnavailableError, InvalidRequestError, SlowReadError
from app.hints import find_meant, listed, shown

MEDIA_TYPE = "application/problem+json"
_USUAL_PROBLEMS = {
    400: "A parameter or the body has a value that cannot be used",
    401: "Missing or unknown API key",
    403: "The API key lacks the scope",
}
#: Detail of an answer after a query has failed. Answers to uploads are more exact, see app/ingest/flush/commit.py.
_UNKNOWN = "The request may have been carried out. Before you repeat a change, look whether it was made."
#: What msgspec says of a field that a struct does not have.
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
log = structlog.get_logger()


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Problem details of RFC 9457: `type` is a stable code under /problems/, `detail` says what to change."""

    type: str
    title: str
    status: int
    detail: str
    #: Identifies this request in the server's log.
    request_id: str | None = None


def problem_responses(described: Mapping[int, str] | None = None) -> dict[int, ResponseSpec]:
    """Return the documentation of a route's errors by status: those of every route with a key, and `described`."""
    return {
        status: ResponseSpec(Problem, description=description, media_type=MEDIA_TYPE)
        for status, description in sorted({**_USUAL_PROBLEMS, **(described or {})}.items())
    }


def describe(error: Exception, fields: Collection[str] = ()) -> tuple[Problem, dict[str, str]]:
    """Return the problem details and headers that answer an exception; those of an unknown one reveal no internals.

    `fields` are those that the body of the request may have.
    """
    headers: dict[str, str] = {}
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    error = _explain_bad_input(error) or error
    if isinstance(error, asyncpg.QueryCanceledError):
        error = SlowReadError("The database stopped a statement that took too long. Ask for less, or try again later.")
    if is_database_away(error) and not isinstance(error, AppError):
        error = DatabaseUnavailableError(_UNKNOWN)
    if isinstance(error, AppError):
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(error.retry_after_s)
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        status = int(error.status)
        return Problem(f"/problems/{error.code}", error.title, status, str(error), request_id), headers
    if isinstance(error, HTTPException):
        return _describe_http(error, request_id, fields), {**headers, **(error.headers or {})}
    detail = "The server's log has the cause under this request id."
    title = "Something went wrong"
    return Problem("/problems/internal", title, HTTP_500_INTERNAL_SERVER_ERROR, detail, request_id), headers


def respond(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Answer an exception with problem details; log an unexpected exception with its traceback."""
    problem, headers = describe(error, _list_body_fields(request))
    if problem.status == HTTP_500_INTERNAL_SERVER_ERROR:
        log.error("request_failed", path=request.scope["path"], exc_info=error)
    return Response(problem, status_code=problem.status, headers=headers, media_type=MEDIA_TYPE)


def _list_body_fields(request: Request[Any, Any, Any]) -> list[str]:
    """Return the fields of the struct that the route of a request reads its body into, if it does."""
    data = getattr(request.scope.get("route_handler"), "parsed_data_field", None)
    kinds = () if data is None else (data.annotation, *(each.annotation for each in data.inner_types))
    return [
        field.encode_name
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
        for field in msgspec.structs.fields(kind)
    ]


def _explain_bad_input(error: Exception) -> AppError | None:
    """Return the answer to an exception that only a value sent by the client can cause, in whichever field.

    Fields are also checked where they are read, with better messages; this function covers what those checks miss.
    """
    if isinstance(error, RecursionError):
        return InvalidRequestError("The body has too many levels of lists and objects; send fewer")
    if isinstance(error, UnicodeError):
        return InvalidRequestError("A text is not valid Unicode; send UTF-8 without unpaired surrogates")
    if isinstance(error, asyncpg.CharacterNotInRepertoireError):
        return InvalidRequestError("A text has a NUL character; leave it out")
    if isinstance(error, asyncpg.DataError) or _is_unfit(error):
        return InvalidRequestError("A number or a time is out of the range that can be stored; send a smaller one")
    if isinstance(error, InternalServerException) and "disconnected" in error.detail:
        return ClientGoneError()
    return None


def _is_unfit(error: BaseException) -> bool:
    """Return whether asyncpg could not encode an argument; it then raises a second DataError, which is a ValueError."""
    return isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError)


def is_database_away(error: BaseException) -> bool:
    """Return whether an exception means that PostgreSQL cannot be reached, or cannot do its work at the moment."""
    return not _is_unfit(error) and isinstance(
        error,
        OSError
        | TimeoutError
        | asyncpg.PostgresConnectionError
        | asyncpg.InterfaceError
        | asyncpg.CannotConnectNowError
        | asyncpg.AdminShutdownError
        | asyncpg.CrashShutdownError
        # When connecting: the role or its password was changed, or the database is taken out of service or replaced.
        | asyncpg.InvalidAuthorizationSpecificationError
        | asyncpg.InvalidCatalogNameError
        | asyncpg.ObjectNotInPrerequisiteStateError
        | asyncpg.ReadOnlySQLTransactionError
        | asyncpg.InsufficientResourcesError
        | asyncpg.LockNotAvailableError
        | asyncpg.QueryCanceledError
        | asyncpg.TransactionRollbackError
        | asyncpg.IdleInTransactionSessionTimeoutError
        | asyncpg.InternalClientError,
    )


def _describe_http(error: HTTPException, request_id: str | None, fields: Collection[str]) -> Problem:
    detail = error.detail
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        detail = "; ".join(_explain(item, fields) for item in error.extra if isinstance(item, dict)) or detail
    title = {404: "Not found", 405: "Method not allowed", 413: "Body too large"}.get(
        error.status_code, "Invalid request"
    )
    code = title.lower().replace(" ", "_")
    return Problem(f"/problems/{code}", title, error.status_code, detail, request_id)


def _explain(item: dict[str, Any], fields: Collection[str]) -> str:
    """Return a wrong parameter or field with the reason; a misspelt field with the right name, one of `fields`."""
    key = item.get("key", "body")
    if key != "data":
        return f"{key}: {item['message']}"
    if fields and (unknown := _UNKNOWN_FIELD.fullmatch(item["message"])):
        meant = find_meant(unknown[1], fields)
        hint = f'did you mean "{meant}"?' if meant is not None else f"the fields are {listed(fields)}"
        return f"body: there is no field {shown(unknown[1])}; {hint}"
    # Litestar names its own parameter when there is no body at all.
    return "The body is empty; send JSON" if item["message"] == "'data'" else f"body: {item['message']}"
