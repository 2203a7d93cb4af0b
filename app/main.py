"""The composition root: wires routes, services and settings into the applications of the API, worker and bridge."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, License, SecurityScheme, Server
from litestar.types import ASGIApp

from app import __version__, health
from app.alerting import routes as alerting_routes
from app.auth import routes as auth_routes
from app.broker import routes as broker_routes
from app.db.pool import Pool
from app.errors import MissingExtraError
from app.http.deadlines import Deadlines
from app.http.direct import DirectRoutes
from app.http.disconnects import CancelReads
from app.http.parameters import CheckParameters
from app.http.proxies import TrustedProxies
from app.http.request_log import RequestLog
from app.ingest import routes as ingest_routes
from app.ingest.uploads.route import UploadRoute
from app.live import routes as live_routes
from app.mqtt.model import BridgePlan
from app.notify import routes as notify_routes
from app.problems import respond
from app.sensors import gateways as gateways_routes
from app.sensors import limits as limits_routes
from app.sensors import routes as sensors_routes
from app.services import Services
from app.settings import Settings
from app.tasks import running
from app.trends import routes as trends_routes
from app.web import routes as web_routes
from app.web.root_path import RootPath
from app.web.schema import SchemaPage, schema_router
from app.worker import Worker


def create_app(settings: Settings, needs_key: bool = True) -> Litestar:
    """Build the application; its services open when the server starts it. Raises SettingsError.

    With `needs_key`, it does not start while no API key exists.
    """
    services = Services(settings, needs_key)
    app = Litestar(
        route_handlers=[
            *ingest_routes.handlers,
            *sensors_routes.handlers,
            *gateways_routes.handlers,
            *limits_routes.handlers,
            *trends_routes.handlers,
            *live_routes.handlers,
            *alerting_routes.handlers,
            *broker_routes.handlers,
            *notify_routes.handlers,
            *auth_routes.handlers,
            *health.handlers,
            *web_routes.handlers,
        ],
        lifespan=[_lifespan],
        state=State(
            {
                "services": services,
                "key_ring": services.ring,
                "broker": services.broker,
                "upload_rates": services.upload_rates,
            }
        ),
        dependencies=_dependencies(services),
        before_request=CheckParameters(),
        exception_handlers={Exception: respond},
        openapi_config=_openapi(settings.root_path),
        logging_config=None,
    )
    app.asgi_handler = DirectRoutes(app, UploadRoute, {"ingest": services.ingest})
    if settings.root_path:
        app.asgi_handler = RootPath(app.asgi_handler, settings.root_path)
    # Wrapped around the router, because Litestar's own middleware does not see requests without a route.
    app.asgi_handler = CancelReads(app.asgi_handler)
    app.asgi_handler = RequestLog(_within_deadlines(app), services.metrics)
    if proxies := settings.parse_proxies():
        app.asgi_handler = TrustedProxies(app.asgi_handler, proxies)
    return app


def create_worker_app(settings: Settings) -> Litestar:
    """Build the application of the worker, which answers probes and shows metrics. Raises SettingsError.

    The worker runs while the application does.
    """
    worker = Worker(settings)
    app = Litestar(
        route_handlers=health.handlers,
        lifespan=[_worker_lifespan],
        state=State({"worker": worker}),
        dependencies={"probe": Provide(lambda: worker.probe, sync_to_thread=False)},
        exception_handlers={Exception: respond},
        openapi_config=None,
        logging_config=None,
    )
    app.asgi_handler = RequestLog(_within_deadlines(app), worker.metrics)
    return app


def create_bridge_app(settings: Settings, plan: BridgePlan, url: str, key: str) -> Litestar:
    """Build the application of the bridge from an MQTT broker to the API at `url`. Raises AppError.

    The bridge runs while the application does.
    """
    try:
        from app.mqtt.bridge import Bridge
        from app.mqtt.broker import BrokerLogin
        from app.mqtt.routes import handlers
    except ImportError:
        raise MissingExtraError("mqtt") from None
    bridge = Bridge(plan, BrokerLogin(settings.mqtt_username, settings.mqtt_password), url, key, settings.data_dir)
    app = Litestar(
        route_handlers=handlers,
        lifespan=[_bridge_lifespan],
        state=State({"bridge": bridge}),
        dependencies={"bridge": Provide(lambda: bridge, sync_to_thread=False)},
        exception_handlers={Exception: respond},
        openapi_config=None,
        logging_config=None,
    )
    app.asgi_handler = _within_deadlines(app)
    return app


@asynccontextmanager
async def _bridge_lifespan(app: Litestar) -> AsyncIterator[None]:
    """Run the bridge while its application runs."""
    async with app.state.bridge.running(), running(app.state.deadlines.watch(), "deadlines"):
        yield


@asynccontextmanager
async def _worker_lifespan(app: Litestar) -> AsyncIterator[None]:
    """Run the worker while its application runs."""
    worker: Worker = app.state.worker
    async with worker.running(), running(app.state.deadlines.watch(), "deadlines"):
        yield


@asynccontextmanager
async def _lifespan(app: Litestar) -> AsyncIterator[None]:
    """Run the services while the application runs."""
    services: Services = app.state.services
    async with services.running(), running(app.state.deadlines.watch(), "deadlines"):
        app.state.pool = services.pool
        yield


def _within_deadlines(app: Litestar) -> ASGIApp:
    """Return the handler of an application that answers in time; call `app.state.deadlines.stop_within` at a stop."""
    deadlines = app.state.deadlines = Deadlines(app.asgi_handler)
    return deadlines


def _dependencies(services: Services) -> dict[str, Provide]:
    """Return the objects that handlers receive by parameter name; the pools exist once the lifespan has opened them."""
    getters: dict[str, Callable[[], Any]] = {
        "probe": lambda: services.probe,
        "settings": lambda: services.settings,
        "ingest": lambda: services.ingest,
        "feed": lambda: services.feed,
        "rules_in_force": lambda: services.rules_in_force,
        "broker": lambda: services.broker,
        "pool": lambda: services.pool,
        "feed_pool": lambda: services.feed_pool,
    }

    async def read_pool(request: Request[Any, Any, Any]) -> AsyncGenerator[Pool, None]:
        async with services.reads.hold(request.scope["state"]["api_key"].label):
            yield services.read_pool

    provided = {name: Provide(getter, sync_to_thread=False) for name, getter in getters.items()}
    return {**provided, "read_pool": Provide(read_pool)}


def _openapi(root_path: str) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Tidegauge",
        version=__version__,
        description=(
            "Sensor readings in; trends, alerts and a live feed out. Send your key as `X-API-Key`, or as "
            "`Authorization: Bearer KEY`. Errors are problem details (RFC 9457)."
        ),
        license=License(name="MIT"),
        servers=[Server(url=root_path or "/")],
        openapi_router=schema_router(),
        use_handler_docstrings=True,
        render_plugins=[SchemaPage()],
        components=Components(
            security_schemes={
                "key": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
                "bearer": SecurityScheme(type="http", scheme="bearer"),
            }
        ),
        security=[{"key": []}, {"bearer": []}],
    )
