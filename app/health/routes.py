"""The health probes and the Prometheus metrics over HTTP, of the API and of the worker. They require no API key."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.openapi.datastructures import ResponseSpec
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE

from app import metrics
from app.db.edition import Edition
from app.health.probe import Probe
from app.jobs import JobState

_NO_KEY: list[dict[str, list[str]]] = [{}]


class Ready(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The state of each part that the process needs; `problems` describes what is wrong.

    `warnings` describes what needs attention although the process does its work.
    """

    status: Literal["ready", "not ready"]
    database: bool
    migrations: bool
    #: API only: whether the live feed is being followed.
    listener: bool | None = None
    #: API: whether a worker evaluates rules. Worker: whether this one does.
    leader: bool
    edition: Edition
    jobs: Mapping[str, JobState]
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
    summary="Can it work now?",
)
async def ready(probe: NamedDependency[Probe]) -> Response[Ready]:
    """Answer 503 when this process cannot take and show readings now, a worker when it cannot do its work.

    The answer comes within 3 seconds, whatever hangs. `warnings` need attention, but the process can do its work.
    """
    seen = await probe.look()
    database = not any(problem.startswith("database") for problem in seen.problems)
    answer = Ready(
        status="not ready" if seen.problems else "ready",
        database=database,
        migrations=database and not any(problem.startswith("migrations") for problem in seen.problems),
        listener=None if probe.listener is None else probe.listener.is_healthy,
        leader=seen.has_leader if probe.is_leader is None else probe.is_leader(),
        edition=probe.edition,
        jobs=probe.jobs.states,
        problems=seen.problems,
        warnings=[warning.text for warning in seen.warnings],
        rule_problems=seen.rule_problems,
    )
    return Response(answer, status_code=HTTP_503_SERVICE_UNAVAILABLE if seen.problems else HTTP_200_OK)


@get("/metrics", tags=["Health"], security=_NO_KEY, summary="Metrics for Prometheus", media_type=metrics.CONTENT_TYPE)
async def show_metrics(probe: NamedDependency[Probe]) -> bytes:
    """Return all metrics of this process in Prometheus' text format.

    Processes of `tidegauge serve --workers` and of `tidegauge up` return the metrics of all of them together.
    """
    probe.measure()
    return probe.metrics.render()


handlers: list[Any] = [live, ready, show_metrics]
