"""HTTP routes of alerts and rules; those of actions on alerts are in `actions`."""

from typing import Annotated

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from app.alerting.actions import acks, silences
from app.alerting.actions.who import no_alert
from app.alerting.listing.alerts import AlertItem, AlertPage, AlertQuery, find_alert, list_page
from app.alerting.listing.rules import RulesState, load_rules_state
from app.alerting.rules.in_force import RulesInForce
from app.auth.guard import require
from app.db.pool import Pool
from app.paging import LARGEST_ID
from app.parameters import PageCursor, PageLimit
from app.problems import problem_responses

_PROBLEMS = problem_responses()
RuleParameter = Annotated[str | None, QueryParameter(description="Only this rule")]
SensorParameter = Annotated[str | None, QueryParameter(description="Only this sensor")]


@get(
    "/api/v1/alerts", guards=[require("read", "live")], responses=_PROBLEMS, tags=["Alerts"], summary="List open alerts"
)
async def list_alerts(
    read_pool: NamedDependency[Pool],
    rules_in_force: NamedDependency[RulesInForce],
    rule: RuleParameter = None,
    sensor: SensorParameter = None,
    limit: PageLimit = 1_000,
    cursor: PageCursor = None,
) -> AlertPage:
    """List the open alerts, the newest first."""
    rules = await rules_in_force.read(read_pool)
    return await list_page(read_pool, rules, AlertQuery(True, rule, sensor, limit, cursor))


@get(
    "/api/v1/alerts/history",
    guards=[require("read", "live")],
    responses=_PROBLEMS,
    tags=["Alerts"],
    summary="List past and open alerts",
)
async def list_history(
    read_pool: NamedDependency[Pool],
    rules_in_force: NamedDependency[RulesInForce],
    rule: RuleParameter = None,
    sensor: SensorParameter = None,
    limit: PageLimit = 100,
    cursor: PageCursor = None,
) -> AlertPage:
    """List all alerts by the time at which they fired, the newest first. Retracted ones have the state `retracted`."""
    rules = await rules_in_force.read(read_pool)
    return await list_page(read_pool, rules, AlertQuery(False, rule, sensor, limit, cursor))


@get(
    "/api/v1/alerts/{alert_id:int}",
    guards=[require("read", "live")],
    responses=problem_responses({404: "There is no such alert"}),
    tags=["Alerts"],
    summary="Show one alert",
)
async def show_alert(
    read_pool: NamedDependency[Pool], rules_in_force: NamedDependency[RulesInForce], alert_id: FromPath[int]
) -> AlertItem:
    """Show an alert, open or past, with whom it was told and the newest 200 messages about it."""
    rules = await rules_in_force.read(read_pool)
    alert = await find_alert(read_pool, rules, alert_id) if 0 < alert_id <= LARGEST_ID else None
    if alert is None:
        raise no_alert(alert_id)
    return alert


@get("/api/v1/rules", guards=[require("read", "live")], responses=_PROBLEMS, tags=["Alerts"], summary="List rules")
async def list_rules(read_pool: NamedDependency[Pool], rules_in_force: NamedDependency[RulesInForce]) -> RulesState:
    """List the rules in force with their state, and the problems of the rule files."""
    return await load_rules_state(read_pool, await rules_in_force.read(read_pool))


handlers = [list_alerts, list_history, show_alert, *acks.handlers, *silences.handlers, list_rules]
