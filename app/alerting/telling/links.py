"""Links of a message entry: the built-in page and Grafana for its series, and the rule's runbook."""

from urllib.parse import urlencode

import msgspec

from app.alerting.telling.untold import UntoldEpisode
from app.clock import HOUR_US
from app.notify.message import Link

_SENSOR_DASHBOARD = "d/tidegauge-sensor"
_GATEWAY_DASHBOARD = "d/tidegauge-operations"
#: Time that a dashboard shows before the start and after the end of an alert.
_MARGIN_US = HOUR_US


class Addresses(msgspec.Struct, frozen=True):
    """Public addresses of the built-in page and of Grafana; None: unknown, so there is no link."""

    page: str | None = None
    grafana: str | None = None
    #: The server's time zone.
    zone: str = "UTC"


def links(addresses: Addresses, episode: UntoldEpisode, runbook: str | None) -> tuple[Link, ...]:
    """Return the links of one entry."""
    pages = {
        "Page": addresses.page and f"{addresses.page.rstrip('/')}/#/alert/{episode.id}",
        "Grafana": addresses.grafana and _dashboard(addresses.grafana, episode),
        "Runbook": runbook,
    }
    return tuple(Link(label, url) for label, url in pages.items() if url)


def _dashboard(address: str, episode: UntoldEpisode) -> str:
    until = "now" if episode.resolved_us is None else (episode.resolved_us + _MARGIN_US) // 1_000
    query: dict[str, str | int] = {"from": (episode.started_us - _MARGIN_US) // 1_000, "to": until}
    dashboard = _GATEWAY_DASHBOARD
    if episode.sensor and episode.metric:
        dashboard = _SENSOR_DASHBOARD
        query |= {"var-sensor": episode.sensor, "var-metric": episode.metric}
    elif episode.gateway:
        query |= {"var-gateway": episode.gateway}
    return f"{address.rstrip('/')}/{dashboard}?{urlencode(query)}"
