"""The health probes and the Prometheus metrics over HTTP, of the API and of the worker. They require no API key."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE

from app import metrics
from app.alerting.rules.sql import SQL
from app.db.aggregates import list_warnings
from app.db.edition import Edition
from app.db.lease import is_held
from app.db.migrations import MigrationError, list_pending
from app.db.pool import DATABASE_ERRORS, Connection, Pool
from app.jobs import Jobs, JobState
from app.live.listener import Listener

_TIMEOUT_S = 3.0
_NO_KEY: list[dict[str, list[str]]] = [{}]


class Probe(msgspec.Struct, frozen=True):
    """What the health routes look at in one process."""

    pool: Pool
    edition: Edition
    jobs: Jobs
    metrics: metrics.Metrics
    #: Of the API only.
    listener: Listener | None = None
    #: Of the worker only.
    is_leader: Callable[[], bool] | None = None


class Ready(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The state of each part that the process needs; `problems` describes in words what is wrong.

    `warnings` describes what needs attention although the process does its work.
    """

    status: Literal["ready", "not ready"]
    database: bool
    migrations: bool
    #: Of the API only: whether the live feed is being followed.
    listener: bool | None = None
    #: Of the API: whether a worker evaluates rules. Of a worker: whether it is the one.
    leader: bool
    edition: Edition
    jobs: Mapping[str, JobState]
    problems: list[str] = []
    warnings: list[str] = []
    #: Errors in the current rule files; the rules accepted last stay in force meanwhile.
    rule_problems: list[str] = []


class _Stored(msgspec.Struct):
    """What the database says."""

    problems: list[str] = []
    warnings: list[str] = []
    rule_problems: list[str] = []
    has_leader: bool = False


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
async def ready(probe: NamedDependency[Probe]) -> Response[Ready]:
    """Check database, migrations, listener and background jobs; answer 503 when readings cannot be taken or shown."""
    stored = await _ask_database(probe)
    problems = stored.problems + _check_parts(probe)
    database = not any(problem.startswith("database") for problem in problems)
    answer = Ready(
        status="not ready" if problems else "ready",
        database=database,
        migrations=database and not any(problem.startswith("migrations") for problem in problems),
        listener=None if probe.listener is None else probe.listener.is_healthy,
        leader=stored.has_leader if probe.is_leader is None else probe.is_leader(),
        edition=probe.edition,
        jobs=probe.jobs.states,
        problems=problems,
        warnings=stored.warnings,
        rule_problems=stored.rule_problems,
    )
    return Response(answer, status_code=HTTP_503_SERVICE_UNAVAILABLE if problems else HTTP_200_OK)


@get("/metrics", tags=["Health"], security=_NO_KEY, summary="Metrics for Prometheus", media_type=metrics.CONTENT_TYPE)
async def show_metrics(probe: NamedDependency[Probe]) -> bytes:
    """Return all metrics of this process in Prometheus' text format.

    Processes of `tidegauge serve --workers` and of `tidegauge up` return the metrics of all of them together.
    """
    return probe.metrics.render()


async def _ask_database(probe: Probe) -> _Stored:
    try:
        async with asyncio.timeout(_TIMEOUT_S), probe.pool.acquire() as connection:
            return await _read(connection, probe.edition)
    except MigrationError as error:
        return _Stored([f"migrations: {error}"])
    except DATABASE_ERRORS as error:
        return _Stored([f"database: does not answer ({type(error).__name__})"])


async def _read(connection: Connection, edition: Edition) -> _Stored:
    pending = await list_pending(connection)
    if pending:
        return _Stored([f"migrations: {name} is not applied" for name in pending])
    has_leader = await is_held(connection)
    warnings = await list_warnings(connection, edition)
    warnings += await connection.fetchval(SQL["get_worker_warnings"])
    if not has_leader:
        missing = "worker: none runs, so rules are not evaluated and alerts not sent: start `tidegauge work`"
        warnings = [missing, *warnings]
    rule_problems = [row["message"] for row in await connection.fetch(SQL["list_rule_problems"])]
    return _Stored([], warnings, rule_problems, has_leader)


def _check_parts(probe: Probe) -> list[str]:
    is_followed = probe.listener is None or probe.listener.is_healthy
    problems = [] if is_followed else ["listener: the live feed is not being followed"]
    return problems + probe.jobs.list_problems()


handlers: list[Any] = [live, ready, show_metrics]
