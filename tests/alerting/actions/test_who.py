"""Who acts on alerts, and by which matchers an alert or its group is silenced."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from litestar import Request

from app.alerting.actions.who import Actor, Alert, matchers_of, who
from app.errors import InvalidRequestError

OFFICE = Alert(
    id=7, rule="cold", sensor="freezer_3", metric="temperature", gateway="gw1", tags={"site": "office"}, level="warning"
)
SILENT_GATEWAY = Alert(id=8, rule="gateway-silent", sensor=None, metric=None, gateway="gw1", tags={}, level="critical")


@pytest.fixture
def request_() -> Request[Any, Any, Any]:
    scope = {"state": {"api_key": SimpleNamespace(label="grafana")}, "client": ("192.0.2.1", 80), "headers": []}
    return cast("Request[Any, Any, Any]", SimpleNamespace(scope=scope))


def test_an_action_is_by_the_given_name_or_else_by_the_label_of_the_key(request_: Request[Any, Any, Any]) -> None:
    assert who(request_, "Ann") == Actor("Ann", "grafana")
    assert who(request_, None) == Actor("grafana", "grafana")


def test_a_blank_name_is_refused_by_the_parameter_that_has_it(request_: Request[Any, Any, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=r"^created_by is empty; leave it out to use .* 'grafana'"):
        who(request_, "  ", "created_by")


def test_labels_of_an_alert_are_its_own_fields_before_its_tags() -> None:
    tagged = Alert(
        id=1, rule="cold", sensor="a", metric=None, gateway=None, tags={"sensor": "b", "gateway": "c"}, level="warning"
    )
    assert [tagged.label(name) for name in ("sensor", "metric", "gateway", "site")] == ["a", "", "", ""]
    assert OFFICE.label("site") == "office"


def test_one_alert_is_silenced_by_its_series_and_a_gateway_alert_by_its_gateway() -> None:
    assert matchers_of(OFFICE, None) == {"rule": "cold", "sensor": "freezer_3", "metric": "temperature"}
    assert matchers_of(SILENT_GATEWAY, None) == {"rule": "gateway-silent", "gateway": "gw1"}


def test_a_group_is_silenced_by_the_labels_that_its_alerts_have_in_common() -> None:
    assert matchers_of(OFFICE, ("site", "metric", "floor")) == {
        "rule": "cold",
        "metric": "temperature",
        "tags": {"site": "office"},
    }
    assert matchers_of(OFFICE, ()) == {"rule": "cold"}
