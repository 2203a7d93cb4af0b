"""Links of message entries."""

import pytest

from app.alerting.telling.links import Addresses, links
from app.clock import HOUR_US
from app.notify.message import Link
from tests.alerting.situations import NOON_US, episode

BOTH = Addresses("https://tidegauge.example/", "https://grafana.example/base")
#: 2026-06-01T09:50:00Z, an hour before the episode began.
FROM_MS = 1_780_307_400_000


def test_links_lead_to_the_series_when_the_addresses_are_known() -> None:
    told = episode(id=7, sensor="Kühl & Gut", metric="temperature")
    assert links(BOTH, told, "https://wiki.example/cold") == (
        Link("Page", "https://tidegauge.example/#/alert/7"),
        Link(
            "Grafana",
            f"https://grafana.example/base/d/tidegauge-sensor?from={FROM_MS}&to=now"
            "&var-sensor=K%C3%BChl+%26+Gut&var-metric=temperature",
        ),
        Link("Runbook", "https://wiki.example/cold"),
    )


def test_dashboard_range_ends_an_hour_after_the_alert_when_it_is_over() -> None:
    told = episode(resolved_us=NOON_US)
    (_, dashboard) = links(BOTH, told, None)
    assert f"?from={FROM_MS}&to={(NOON_US + HOUR_US) // 1_000}&" in dashboard.url


def test_links_show_the_gateway_when_the_alert_is_of_a_gateway() -> None:
    told = episode(id=8, series_id=None, sensor=None, metric=None, gateway="gate 1")
    assert [link.url for link in links(BOTH, told, None)] == [
        "https://tidegauge.example/#/alert/8",
        f"https://grafana.example/base/d/tidegauge-operations?from={FROM_MS}&to=now&var-gateway=gate+1",
    ]


@pytest.mark.parametrize(
    ("addresses", "labels"),
    [(Addresses(), []), (Addresses(grafana="http://g"), ["Grafana"]), (BOTH, ["Page", "Grafana"])],
)
def test_links_are_left_out_when_their_address_is_unknown(addresses: Addresses, labels: list[str]) -> None:
    assert [link.label for link in links(addresses, episode(), None)] == labels
