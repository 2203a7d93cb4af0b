"""The health probes and the Prometheus metrics over HTTP. These routes require no API key."""

import asyncio
from typing import Any, Literal

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE

from app import metrics
from app.db.aggregates import list_warnings
from app.db.edition import Edition
from app.db.migrations import MigrationError, list_pending
from app.db.pool import DATABASE_ERRORS
from app.jobs import FAILURES_ALARMING, JobState
from app.log import redact
from app.services import Services

_TIMEOUT_S = 3.0
_NO_KEY: list[dict[str, list[str]]] = [{}]


class Ready(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of each part that serving needs; `problems` describes in words what is wrong.

    `warnings` describes what needs attention although readings are taken and shown.
    """

    status: Literal["ready", "not ready"]
    database: bool
    migrations: bool
    listener: bool
    leader: bool
    edition: Edition
    jobs: dict[str, JobState]
    problems: list[str] = []
    warnings: list[str] = []
    #: Errors in the current rule files; the rules accepted last stay in force meanwhile.
    rule_problems: list[str] = []


@get("/health/live", tags=["Health"], security=_NO_KEY, summary="Is the process alive?")
async def live() -> dict[str, str]:
    """Answer 200 as long as the event loop runs."""
    return {"status": "alive"}


@get(
    "/health/ready",
    responses={503: ResponseSpec(Ready, description="Not ready: `problems` says why")},
    tags=["Health"],
    security=_NO_KEY,
    summary="Can it serve?",
)
async def ready(services: NamedDependency[Services]) -> Response[Ready]:
    """Check database, migrations, listener and background jobs; answer 503 when readings cannot be taken or shown."""
    problems, warnings = await _check_database(services)
    problems += _check_parts(services)
    database = not any(problem.startswith("database") for problem in problems)
    answer = Ready(
        "not ready" if problems else "ready",
        database,
        database and not any(problem.startswith("migrations") for problem in problems),
        services.listener.is_healthy,
        services.lease.held,
        services.edition,
        services.jobs.states,
        problems,
        warnings,
        [str(problem) for problem in services.alerting.keeper.problems],
    )
    return Response(answer, status_code=HTTP_503_SERVICE_UNAVAILABLE if problems else HTTP_200_OK)


@get("/metrics", tags=["Health"], security=_NO_KEY, summary="Metrics for Prometheus", media_type=metrics.CONTENT_TYPE)
async def show_metrics(services: NamedDependency[Services]) -> bytes:
    """Return all metrics of this process in Prometheus' text format."""
    return services.metrics.render()


async def _check_database(services: Services) -> tuple[list[str], list[str]]:
    """Return problems and warnings."""
    try:
        async with asyncio.timeout(_TIMEOUT_S), services.pool.acquire() as connection:
            pending = await list_pending(connection)
            problems = [f"migrations: {name} is not applied" for name in pending]
            warnings = await list_warnings(connection, services.edition)
            return problems, warnings + services.overdue_policies.list_warnings()
    except MigrationError as error:
        return [f"migrations: {error}"], []
    except DATABASE_ERRORS as error:
        return [f"database: does not answer ({type(error).__name__})"], []


def _check_parts(services: Services) -> list[str]:
    problems = [] if services.listener.is_healthy else ["listener: the live feed is not being followed"]
    return problems + [
        f"job {name} failed {state.failures_in_a_row} times in a row: {redact(str(state.error))}"
        for name, state in services.jobs.states.items()
        if state.failures_in_a_row >= FAILURES_ALARMING
    ]


handlers: list[Any] = [live, ready, show_metrics]
