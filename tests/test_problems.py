"""Errors as problem details: status, texts and headers, without internals."""

import asyncpg
import msgspec
import pytest
import structlog
from litestar.exceptions import HTTPException, NotFoundException, ValidationException

from app.errors import InvalidRequestError, OverloadedError, UnauthorizedError
from app.problems import describe, is_database_away, problem_responses
from tests.conftest import Server

AWAY = [
    ConnectionRefusedError(),
    TimeoutError(),
    asyncpg.ConnectionDoesNotExistError(),
    asyncpg.InterfaceError("the pool is closed"),
    asyncpg.CannotConnectNowError(),
    asyncpg.AdminShutdownError(),
    asyncpg.CrashShutdownError(),
    asyncpg.TooManyConnectionsError(),
    asyncpg.ReadOnlySQLTransactionError(),
    asyncpg.DiskFullError(),
    asyncpg.LockNotAvailableError(),
    asyncpg.InvalidPasswordError(),
    asyncpg.InvalidCatalogNameError(),
    asyncpg.ObjectNotInPrerequisiteStateError(),
]


def test_error_is_503_that_asks_for_less_when_a_statement_took_too_long() -> None:
    problem, headers = describe(asyncpg.QueryCanceledError())
    assert (problem.type, problem.status, headers["Retry-After"]) == ("/problems/slow_read", 503, "5")
    assert problem.detail == ("The database stopped a statement that took too long. Ask for less, or try again later.")


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
def test_error_is_503_with_retry_after_when_the_database_is_away(error: Exception) -> None:
    assert is_database_away(error)
    problem, headers = describe(error)
    assert (problem.type, problem.status) == ("/problems/database_unavailable", 503)
    assert problem.detail == (
        "The request may have been carried out. Before you repeat a change, look whether it was made."
    )
    assert headers == {"Retry-After": "5"}


@pytest.mark.parametrize(
    "error",
    [asyncpg.UniqueViolationError(), asyncpg.UndefinedTableError(), ValueError()],
    ids=lambda e: type(e).__name__,
)
def test_database_is_not_away_when_the_error_is_another(error: Exception) -> None:
    assert not is_database_away(error)


def test_app_error_is_described_by_its_code_title_and_message() -> None:
    problem, headers = describe(InvalidRequestError("limit is 0; give at least 1"))
    assert msgspec.to_builtins(problem) == {
        "type": "/problems/invalid_request",
        "title": "Invalid request",
        "status": 400,
        "detail": "limit is 0; give at least 1",
    }
    assert headers == {}


def test_overload_has_retry_after_and_a_missing_key_has_www_authenticate() -> None:
    assert describe(OverloadedError("too much"))[1] == {"Retry-After": "1"}
    assert describe(UnauthorizedError("no key"))[1] == {"WWW-Authenticate": "Bearer"}


def test_unknown_error_does_not_reveal_its_cause() -> None:
    problem, _ = describe(RuntimeError("s3cret"))
    assert problem.status == 500
    assert "s3cret" not in msgspec.json.encode(problem).decode()


def test_error_of_litestar_keeps_status_detail_and_headers() -> None:
    problem, headers = describe(HTTPException(status_code=405, detail="no", headers={"Allow": "GET"}))
    assert (problem.type, problem.title, problem.detail) == ("/problems/method_not_allowed", "Method not allowed", "no")
    assert headers == {"Allow": "GET"}
    assert describe(NotFoundException())[0].type == "/problems/not_found"


def test_validation_error_names_each_parameter_and_its_problem() -> None:
    extra = [{"key": "limit", "message": "Expected `int` >= 1"}, {"message": "no body"}]
    problem, _ = describe(ValidationException(detail="Validation failed", extra=extra))
    assert problem.detail == "limit: Expected `int` >= 1; body: no body"


def test_problem_has_the_request_id_of_the_log() -> None:
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        assert describe(InvalidRequestError("x"))[0].request_id == "r1"


def test_documented_problems_are_the_usual_ones_and_the_given_ones() -> None:
    responses = problem_responses({404: "There is no such alert", 400: "The body cannot be decoded"})
    assert {status: response.description for status, response in responses.items()} == {
        400: "The body cannot be decoded",
        401: "Missing or unknown API key",
        403: "The API key lacks the scope",
        404: "There is no such alert",
    }
    assert {response.media_type for response in responses.values()} == {"application/problem+json"}


@pytest.mark.parametrize(
    ("method", "path", "body", "hint"),
    [
        ("PUT", "/api/v1/sensors/oven", {"expected_intervall": 60}, 'did you mean "expected_interval"?'),
        ("PUT", "/api/v1/sensors/oven", {"displayName": "Oven"}, 'did you mean "display_name"?'),
        ("PUT", "/api/v1/sensors/oven", {"colour": "red"}, "the fields are "),
        ("POST", "/api/v1/silences", {"matcher": {"rule": "a"}, "for": "1h"}, 'did you mean "matchers"?'),
        ("POST", "/api/v1/silences/1/extend", {"For": "1h"}, 'did you mean "for"?'),
        ("POST", "/api/v1/alerts/1/ack", {"notes": "x"}, 'did you mean "note"?'),
        ("POST", "/api/v1/alerts/1/close", {"bye": "x"}, "the fields are by or note"),
    ],
)
async def test_misspelt_field_of_a_body_is_refused_with_the_right_name(
    server: Server, method: str, path: str, body: dict[str, object], hint: str
) -> None:
    async with server.http.request(method, path, json=body) as response:
        problem = await response.json()
    assert response.status == 400
    (name, *_) = body
    assert problem["detail"].startswith(f'body: there is no field "{name}"; {hint}')
