"""Errors that a person or a client can act on; any other exception is a defect of Tidegauge."""

from http import HTTPStatus
from typing import ClassVar


class AppError(Exception):
    """An error that the caller can correct.

    `code` is for programs, `title` names the kind of error for people. The message names the wrong value and says
    what would be accepted.
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong"
    status: ClassVar[HTTPStatus] = HTTPStatus.INTERNAL_SERVER_ERROR
    #: Seconds after which the client should try again; sent as Retry-After.
    retry_after_s: int | None = None


class SettingsError(AppError):
    """A setting is missing or has a value that cannot be used."""

    code = "settings"
    title = "Wrong setting"


class UnauthorizedError(AppError):
    """No key was sent, or the key is unknown or revoked."""

    code = "unauthorized"
    title = "Missing or unknown API key"
    status = HTTPStatus.UNAUTHORIZED


class ForbiddenError(AppError):
    """The key is valid but lacks the scope."""

    code = "forbidden"
    title = "The API key lacks a scope"
    status = HTTPStatus.FORBIDDEN


class InvalidRequestError(AppError):
    """A parameter or a body has a value that cannot be used."""

    code = "invalid_request"
    title = "Invalid request"
    status = HTTPStatus.BAD_REQUEST


class NotFoundError(AppError):
    """What the request or the command names does not exist."""

    code = "not_found"
    title = "Not found"
    status = HTTPStatus.NOT_FOUND


class NoSuchSensorError(NotFoundError):
    """No sensor has or had this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no sensor {name!r}; /api/v1/sensors lists them")


class ConflictError(AppError):
    """The request contradicts what is stored."""

    code = "conflict"
    title = "Conflict"
    status = HTTPStatus.CONFLICT


class PayloadTooLargeError(AppError):
    """A body is larger than the limit, as sent or after decompression."""

    code = "too_large"
    title = "Body too large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE


class SlowBodyError(AppError):
    """The client stopped sending in the middle of a body."""

    code = "slow_body"
    title = "The body did not arrive"
    status = HTTPStatus.REQUEST_TIMEOUT


class ClientGoneError(AppError):
    """The client disconnected in the middle of its request, so nobody reads the answer."""

    code = "client_gone"
    title = "The client has disconnected"
    status = HTTPStatus.BAD_REQUEST

    def __init__(self) -> None:
        super().__init__("The client disconnected before the end of the body")


class UnprocessableError(AppError):
    """The request is well-formed but cannot be carried out as it stands."""

    code = "unprocessable"
    title = "Cannot be processed"
    status = HTTPStatus.UNPROCESSABLE_ENTITY


class MissingExtraError(AppError):
    """The server lacks libraries that an extra of the package brings."""

    code = "missing_extra"
    title = "Not installed"
    status = HTTPStatus.NOT_IMPLEMENTED

    def __init__(self, extra: str) -> None:
        super().__init__(f"The server lacks libraries for this; install tidegauge[{extra}] there")


class OverloadedError(AppError):
    """The server has too much to do at the moment; the client should try again, and keep its data until then."""

    code = "overloaded"
    title = "The server is overloaded"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_s = 1


class TooManyRequestsError(AppError):
    """The key already has the largest allowed number of requests under way."""

    code = "too_many_requests"
    title = "Too many requests of this key"
    status = HTTPStatus.TOO_MANY_REQUESTS
    retry_after_s = 1


class SlowReadError(AppError):
    """A read took longer than the server allows."""

    code = "slow_read"
    title = "Reading takes too long"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_s = 5


class WorkerAwayError(AppError):
    """The request needs a worker, and none runs."""

    code = "worker_away"
    title = "The worker is away"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_s = 5


class DatabaseUnavailableError(AppError):
    """The database cannot be reached; the message says whether the request may have been stored."""

    code = "database_unavailable"
    title = "The database is away"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_s = 5


class TooLateError(AppError):
    """The answer did not begin in time, or the server stops."""

    code = "too_late"
    title = "No answer in time"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after_s = 5
