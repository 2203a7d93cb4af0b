"""The bridge's probes and metrics over HTTP. They require no key."""

from typing import Any

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.status_codes import HTTP_200_OK, HTTP_503_SERVICE_UNAVAILABLE

from app.metrics import CONTENT_TYPE
from app.mqtt.bridge import Bridge


@get("/health/live")
async def live() -> dict[str, str]:
    """Answer 200 as long as the event loop runs."""
    return {"status": "alive"}


@get("/health/ready")
async def ready(bridge: NamedDependency[Bridge]) -> Response[dict[str, Any]]:
    """Answer 503, with the reasons, while messages do not reach the server."""
    problems = bridge.problems()
    answer = {"status": "not ready" if problems else "ready", "problems": problems}
    return Response(answer, status_code=HTTP_503_SERVICE_UNAVAILABLE if problems else HTTP_200_OK)


@get("/metrics", media_type=CONTENT_TYPE)
async def show_metrics(bridge: NamedDependency[Bridge]) -> bytes:
    """Return the metrics in Prometheus' text format."""
    bridge.measure()
    return bridge.counts.render()


handlers: list[Any] = [live, ready, show_metrics]
