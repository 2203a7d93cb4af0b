"""Where a message leads: the page and Grafana, each at the series that it is about, and the rule's runbook."""

from urllib.parse import quote, urlencode

import msgspec

from app.alerting.telling.situation import UntoldEpisode
from app.clock import HOUR_US
from app.notify.message import Link

_SENSOR_DASHBOARD = "d/tidegauge-sensor"
_GATEWAY_DASHBOARD = "d/tidegauge-operations"
#: A dashboard shows so much before an alert began and after it ended.
_MARGIN_US = HOUR_US


class Addresses(msgspec.Struct, frozen=True):
    """Where people reach the page and Grafana; None: nowhere that we know of."""

    page: str | None = None
    grafana: str | None = None


def links(addresses: Addresses, episode: UntoldEpisode, runbook: str | None) -> tuple[Link, ...]:
    """Give the links of one entry."""
    pages = {
        "Page": addresses.page and _page(addresses.page, episode),
        "Grafana": addresses.grafana and _dashboard(addresses.grafana, episode),
        "Runbook": runbook,
    }
    return tuple(Link(label, url) for label, url in pages.items() if url)


def _page(address: str, episode: UntoldEpisode) -> str:
    """Search for the sensor; for a whole gateway all are shown."""
    query = f"?q={quote(episode.sensor)}" if episode.sensor else ""
    return f"{address.rstrip('/')}/{query}"


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
