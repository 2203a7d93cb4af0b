"""Actions of people on alerts over HTTP: acks of groups, closing, silences from alerts; who did what."""

from datetime import datetime, timedelta
from typing import Any

from tests.alerting.test_routes import at, items, measure, send, site
from tests.conftest import Server

__all__ = ["site"]


async def actions(site: Server, alert_id: int) -> list[tuple[Any, ...]]:
    """Return what people did about an alert, in order."""
    alert: Any = await site.get(f"/api/v1/alerts/{alert_id}")
    return [(each["action"], each["by"], each["key"], each["note"], each["level"]) for each in alert["actions"]]


async def test_alert_is_closed_by_hand_and_leaves_the_open_ones(site: Server) -> None:
    await measure(site, "freezer-1", m0=9)
    status, answer = await send(site, "POST", "/api/v1/alerts/1/close", {"by": "ann", "note": "sensor replaced"})
    assert (status, answer) == (200, {"id": 1, "closed_by": "ann", "note": "sensor replaced"})
    assert await items(site, "/api/v1/alerts") == []
    (over,) = await items(site, "/api/v1/alerts/history")
    shown = ("state", "resolved_at", "closed_by", "closed_note")
    assert [over[name] for name in shown] == ["resolved", None, "ann", "sensor replaced"]
    assert await actions(site, 1) == [("close", "ann", "API_KEY", "sensor replaced", "warning")]
    (sensor,) = await items(site, "/api/v1/sensors")
    assert sensor["state"] == "ok"
    status, problem = await send(site, "POST", "/api/v1/alerts/1/close", {})
    assert (status, problem["detail"]) == (409, "Alert 1 is over; only an open alert can be closed")
    assert (await send(site, "POST", "/api/v1/alerts/99/close", {}))[0] == 404


async def test_closed_alert_is_open_again_when_its_level_rises(site: Server) -> None:
    await measure(site, "freezer-1", m0=9)
    assert (await send(site, "POST", "/api/v1/alerts/1/close", {}))[1]["closed_by"] == "API_KEY"
    await measure(site, "freezer-1", m1=9.5)
    assert await items(site, "/api/v1/alerts") == []
    await measure(site, "freezer-1", m2=13)
    (risen,) = await items(site, "/api/v1/alerts")
    assert (risen["state"], risen["level"], risen["closed_by"]) == ("firing", "critical", "API_KEY")
    await measure(site, "freezer-1", m3=7)
    (over,) = await items(site, "/api/v1/alerts/history")
    assert (over["state"], over["resolved_at"]) == ("resolved", at(3))


async def test_ack_covers_the_whole_group_when_asked(site: Server) -> None:
    for number in (1, 2):
        await measure(site, f"freezer-{number}", m0=9)
    status, answer = await send(site, "POST", "/api/v1/alerts/1/ack", {"group": True, "note": "on my way"})
    assert (status, answer) == (200, {"id": 1, "acked_by": "API_KEY", "acked": [1, 2]})
    assert {each["acked_by"] for each in await items(site, "/api/v1/alerts")} == {"API_KEY"}
    assert await actions(site, 2) == [("ack", "API_KEY", "API_KEY", "on my way", "warning")]


async def test_ack_covers_the_others_that_are_named_and_still_open(site: Server) -> None:
    for number in (1, 2, 3, 4):
        await measure(site, f"freezer-{number}", m0=9)
    await measure(site, "freezer-4", m1=7)
    status, answer = await send(site, "POST", "/api/v1/alerts/1/ack", {"others": [3, 4, 99]})
    assert (status, answer) == (200, {"id": 1, "acked_by": "API_KEY", "acked": [1, 3]})
    assert {each["id"]: each["acked_by"] for each in await items(site, "/api/v1/alerts")}[2] is None
    assert (await send(site, "POST", "/api/v1/alerts/1/ack", {"others": [0]}))[0] == 400


async def test_silence_comes_from_an_alert_lasts_for_a_time_and_is_extended(site: Server) -> None:
    await measure(site, "freezer-1", m0=9)
    status, silence = await send(site, "POST", "/api/v1/silences", {"alert": 1, "for": "2h", "comment": "defrosting"})
    assert status == 201
    wanted = {"rule": "warm", "sensor": "freezer-1", "metric": "temperature"}
    assert (silence["matchers"], silence["author"]) == (wanted, "API_KEY")
    start, end = (datetime.fromisoformat(silence[name]) for name in ("from", "to"))
    assert abs(end - start - timedelta(hours=2)) < timedelta(seconds=2)
    status, longer = await send(site, "POST", "/api/v1/silences/1/extend", {"for": "30m", "by": "ann"})
    assert (status, datetime.fromisoformat(longer["to"]) - end) == (200, timedelta(minutes=30))
    status, problem = await send(site, "POST", "/api/v1/silences/1/extend", {"to": silence["to"]})
    assert status == 400
    assert "lasts until" in problem["detail"]
    assert (await send(site, "POST", "/api/v1/silences/9/extend", {"for": "1h"}))[0] == 404
    assert await actions(site, 1) == [("silence", "API_KEY", "API_KEY", "defrosting", "warning")]


async def test_silence_covers_a_whole_group(site: Server) -> None:
    await measure(site, "freezer-1", m0=9)
    status, silence = await send(site, "POST", "/api/v1/silences", {"alert": 1, "group": True, "for": "1h"})
    assert (status, silence["matchers"]["rule"]) == (201, "warm")
    assert "sensor" not in silence["matchers"]
