"""The routes of alerts, silences and rules, and alerts on the live feed."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from structlog.testing import capture_logs

from app.auth.keys import Scope, create_key
from app.settings import Settings
from tests.conftest import API_KEY, API_KEY_WS, Database, Server, running_server
from tests.live.clients import FeedClient, Message, live

RULES = """
version: 1
rules:
  - name: warm
    sensors: {metric: temperature}
    unit: "°C"
    levels: {warning: {above: 8}, critical: {above: 12}}
    no_data: {after: 30m, then: alert}
    notify: []
  - name: damp
    sensors: {metric: humidity, tags: {site: quay}}
    levels: {error: {outside: [30, 70.5], for: 2m}}
    notify: []
  - name: falling
    sensors: {metric: pressure}
    value: delta 10m
    levels: {info: {below: -3}}
    notify: []
"""
#: The time of minute 0 of all readings.
BASE = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=2)
INVALID_TEXT = "\u0000"
HUGE = 10**30


@pytest.fixture
async def site(database: Database, tmp_path: Path) -> AsyncIterator[Server]:
    """Run a server with RULES."""
    (tmp_path / "rules.yml").write_text(RULES)
    settings = Settings(database_url=database.dsn, api_key=API_KEY, api_key_ws=API_KEY_WS, rules_dir=tmp_path)
    async with running_server(settings) as server:
        yield server


def at(minute: float) -> str:
    """Return the time some minutes after BASE in the format of the responses."""
    return (BASE + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z")


async def measure(server: Server, sensor: str, metric: str = "temperature", **values: float) -> None:
    """Upload readings and evaluate; each keyword is a reading: `m5=9` is 9 at minute 5."""
    readings = [
        {"sensor": sensor, "time": at(int(name[1:])), "values": {metric: value}, "tags": {"site": "quay"}}
        for name, value in values.items()
    ]
    assert (await server.post_readings(readings)).status == 200
    await server.tick()


async def send(server: Server, method: str, path: str, body: object = None, key: str = API_KEY) -> tuple[int, Any]:
    """Send a request; return the status and the decoded response."""
    async with server.http.request(method, path, json=body, headers={"X-API-Key": key}) as response:
        return response.status, await response.json() if response.status != 204 else None


async def items(server: Server, path: str, **params: str | int) -> list[dict[str, Any]]:
    answer: Any = await server.get(path, **params)
    found: list[dict[str, Any]] = answer["items"]
    return found


async def test_history_shows_times_levels_and_peak_of_each_alert(site: Server) -> None:
    await measure(site, "freezer-1", m0=9, m1=13.5, m2=10, m3=7)
    await measure(site, "freezer-2", m5=8.5, m6=9)
    newest, oldest = await items(site, "/api/v1/alerts/history")
    assert datetime.fromisoformat(oldest.pop("first_known_at")) > BASE
    assert oldest == {
        "id": 1,
        "rule": "warm",
        "kind": "threshold",
        "sensor": "freezer-1",
        "metric": "temperature",
        "gateway": None,
        "tags": {"site": "quay"},
        "unit": "°C",
        "level": "critical",
        "state": "resolved",
        "started_at": at(0),
        "fired_at": at(0),
        "resolved_at": at(3),
        "reason": None,
        "merged_into": None,
        "value": 7.0,
        "fired_value": 9.0,
        "peak": 13.5,
        "condition": "above",
        "threshold": 12,
        "steps": [{"level": "warning", "at": at(0)}, {"level": "critical", "at": at(1)}],
        "acked_by": None,
        "acked_at": None,
        "acked_level": None,
        "closed_at": None,
        "closed_by": None,
        "closed_note": None,
        "muted_until": None,
        "actions": [],
        "told": [],
        "messages": [],
    }
    shown = ("sensor", "state", "level", "resolved_at", "value", "peak", "threshold")
    assert [newest[name] for name in shown] == ["freezer-2", "firing", "warning", None, 9.0, 9.0, 8]


async def test_history_peak_is_what_the_rule_compared_farthest_past_the_threshold(site: Server) -> None:
    await measure(site, "hall", "humidity", m0=20, m2=80, m3=25, m4=50)
    await measure(site, "barometer", "pressure", m0=1_000, m6=999, m12=990)
    falling, damp = await items(site, "/api/v1/alerts/history")
    shown = ("rule", "level", "started_at", "fired_at", "resolved_at", "value", "fired_value", "peak", "threshold")
    assert [damp[name] for name in shown] == ["damp", "error", at(0), at(2), at(4), 50.0, 80.0, 20.0, [30, 70.5]]
    assert [falling[name] for name in ("rule", "level", "value", "peak", "threshold")] == [
        "falling",
        "info",
        -9.0,
        -9.0,
        -3,
    ]


async def test_open_alert_of_an_older_version_has_its_peak(site: Server, database: Database) -> None:
    await measure(site, "freezer-1", m0=9, m1=13.5, m2=10)
    # As an update leaves it, once values of it were stored.
    await database.pool.execute("UPDATE alert_episode SET condition = NULL, peak = NULL, peak_at = NULL")
    (listed,) = await items(site, "/api/v1/alerts")
    assert (listed["value"], listed["peak"]) == (10.0, 13.5)


async def test_fired_value_is_what_the_rule_compared_when_it_fired(site: Server, database: Database) -> None:
    await measure(site, "barometer", "pressure", m0=1_000, m6=999, m12=990, m14=985)
    wanted = -9.0  # of minute 12, when it fired; of minute 14 it is -14
    (listed,) = await items(site, "/api/v1/alerts")
    assert (listed["fired_at"], listed["fired_value"], listed["value"]) == (at(12), wanted, -14.0)
    async with live(site) as client:
        snapshot = await client.snapshot(alerts=True)
        assert [each["fired_value"] for each in snapshot["alerts"]] == [wanted]
        await measure(site, "barometer", "pressure", m24=985)
        resolved = await next_alert(client)
        assert (resolved["transition"], resolved["fired_value"], resolved["value"]) == ("resolved", wanted, 0.0)
    await database.pool.execute("DELETE FROM reading WHERE time < $1", BASE + timedelta(minutes=13))
    (over,) = await items(site, "/api/v1/alerts/history")
    assert (over["fired_value"], over["peak"], over["value"]) == (wanted, -14.0, 0.0)


async def test_history_marks_retracted_alerts(site: Server, database: Database) -> None:
    await measure(site, "hall", "humidity", m0=20, m3=20)
    await database.pool.execute(
        "INSERT INTO alert_told (channel, episode_id, told, told_level) VALUES ('x', 1, 'firing', 'error')"
    )
    await measure(site, "hall", "humidity", m2=50)
    (withdrawn,) = await items(site, "/api/v1/alerts/history")
    assert (withdrawn["state"], withdrawn["reason"]) == ("retracted", "retracted")
    assert await items(site, "/api/v1/alerts") == []


async def test_history_is_paged_and_filtered(site: Server) -> None:
    for number in range(3):
        await measure(site, f"freezer-{number}", m0=9, m1=7, m2=9, m3=7)
    await measure(site, "hall", "humidity", m0=20, m2=20)
    everything = await items(site, "/api/v1/alerts/history", limit=1_000)
    assert [(each["sensor"], each["fired_at"]) for each in everything] == [
        ("hall", at(2)),
        ("freezer-2", at(2)),
        ("freezer-1", at(2)),
        ("freezer-0", at(2)),
        ("freezer-2", at(0)),
        ("freezer-1", at(0)),
        ("freezer-0", at(0)),
    ]
    for limit in (1, 2, 3, 7):
        collected: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            page: Any = await site.get("/api/v1/alerts/history", limit=limit, **({"cursor": cursor} if cursor else {}))
            assert len(page["items"]) <= limit
            collected += page["items"]
            cursor = page["next"]
        assert collected == everything
    by_sensor = await items(site, "/api/v1/alerts/history", sensor="freezer-1")
    assert [each["fired_at"] for each in by_sensor] == [at(2), at(0)]
    assert [each["sensor"] for each in await items(site, "/api/v1/alerts/history", rule="damp")] == ["hall"]
    assert await items(site, "/api/v1/alerts/history", rule="damp", sensor="freezer-1") == []
    assert [each["sensor"] for each in await items(site, "/api/v1/alerts")] == ["hall"]


async def test_ack_is_accepted_until_the_alert_is_over(site: Server) -> None:
    await measure(site, "freezer-1", m0=9)
    path = "/api/v1/alerts/1/ack"
    assert await send(site, "POST", path, {"by": "anna"}) == (200, {"id": 1, "acked_by": "anna"})
    (acked,) = await items(site, "/api/v1/alerts")
    assert (acked["acked_by"], acked["acked_level"]) == ("anna", "warning")
    assert await send(site, "POST", path, {"by": "bert"}) == (200, {"id": 1, "acked_by": "bert"})
    await measure(site, "freezer-1", m1=7)
    status, problem = await send(site, "POST", path, {"by": "anna"})
    assert (status, problem["detail"]) == (409, "Alert 1 is over; only an open alert can be acknowledged")
    (over,) = await items(site, "/api/v1/alerts/history")
    assert over["acked_by"] == "bert"


async def test_ack_is_logged_with_key_and_address_when_it_is_new(site: Server) -> None:
    await measure(site, "freezer-1", m0=9)
    with capture_logs() as logs:
        for by in ("anna", "anna", "bert"):
            assert (await send(site, "POST", "/api/v1/alerts/1/ack", {"by": by}))[0] == 200
    shown = ("id", "by", "key", "client")
    assert [tuple(line[name] for name in shown) for line in logs if line["event"] == "alert_acked"] == [
        (1, "anna", "API_KEY", "127.0.0.1"),
        (1, "bert", "API_KEY", "127.0.0.1"),
    ]


async def test_ack_is_sent_to_followers_once_when_it_is_new(site: Server) -> None:
    async with live(site) as client:
        await client.snapshot(sensors=["nothing"], alerts=True)
        await measure(site, "freezer-1", m0=9)
        assert (await next_alert(client))["transition"] == "firing"
        for by in ("anna", "anna", "bert"):
            assert (await send(site, "POST", "/api/v1/alerts/1/ack", {"by": by}))[0] == 200
        await measure(site, "freezer-1", m1=7)
        shown = ("transition", "acked_by", "acked_level", "level")
        frames = [await next_alert(client) for _ in range(3)]
        assert [tuple(frame[name] for name in shown) for frame in frames] == [
            ("acked", "anna", "warning", "warning"),
            ("acked", "bert", "warning", "warning"),
            ("resolved", "bert", "warning", "warning"),
        ]
        assert datetime.fromisoformat(frames[0]["acked_at"]) > BASE


TOLD = """
INSERT INTO alert_told (channel, episode_id, told, told_level, told_at)
VALUES ('duty', 1, 'firing', 'warning', '2026-01-31T08:00:00Z')
"""
#: A message that was sent, one that is tried again, a dead letter, and one that is about another alert.
MESSAGES = """
INSERT INTO notification (channel, group_key, state, due_at, finished_at, error, text, lost_items)
VALUES ('duty', 'a', 'sent', now(), '2026-01-31T08:00:00Z', NULL, '{"body": "secret text"}', NULL),
       ('duty', 'a', 'sending', now(), NULL, 'HTTP 503', '{"body": "secret text"}', NULL),
       ('office', 'a', 'dead', now(), '2026-01-31T09:00:00Z', 'no such host', NULL,
        '[{"episode_id": 1, "revision": 1, "kind": "firing", "level": "warning"},
          {"episode_id": 2, "revision": 1, "kind": "firing", "level": "warning"}]'),
       ('duty', 'b', 'sent', now(), now(), NULL, NULL, NULL);
INSERT INTO notification_item (notification_id, channel, episode_id, revision, kind, level)
VALUES (1, 'duty', 1, 1, 'firing', 'warning'), (2, 'duty', 1, 2, 'reminder', 'warning'),
       (4, 'duty', 2, 1, 'firing', 'warning');
"""


async def test_alert_shows_whom_it_was_told_and_its_messages(site: Server, database: Database) -> None:
    await measure(site, "freezer-1", m0=9)
    await measure(site, "freezer-2", m0=9)
    await database.pool.execute(TOLD)
    await database.pool.execute(MESSAGES)
    await measure(site, "freezer-1", m1=7)
    status, alert = await send(site, "GET", "/api/v1/alerts/1")
    assert (status, alert["id"], alert["sensor"], alert["state"]) == (200, 1, "freezer-1", "resolved")
    assert alert["told"] == [{"channel": "duty", "told": "firing", "level": "warning", "at": "2026-01-31T08:00:00Z"}]
    firing = {"kind": "firing", "level": "warning"}
    dead = {"state": "dead", "error": "no such host", "finished_at": "2026-01-31T09:00:00Z"}
    waiting = {"state": "sending", "error": "HTTP 503", "finished_at": None}
    sent = {"state": "sent", "error": None, "finished_at": "2026-01-31T08:00:00Z"}
    reminded = {"id": 2, "channel": "duty", "kind": "reminder", "level": "warning", **waiting}
    assert alert["messages"] == [
        {"id": 3, "channel": "office", **firing, **dead},
        reminded,
        {"id": 1, "channel": "duty", **firing, **sent},
    ]
    listed = {each["id"]: each for each in await items(site, "/api/v1/alerts/history")}
    assert listed[1] == {**alert, "messages": [{"id": 3, "channel": "office", **firing, **dead}, reminded]}
    assert [each["id"] for each in listed[2]["messages"]] == [4, 3]
    assert listed[2]["told"] == []


async def test_alert_is_not_found_when_there_is_none_of_its_id(site: Server, database: Database) -> None:
    await measure(site, "freezer-1", m0=9)
    for wanted in (99, HUGE):
        status, problem = await send(site, "GET", f"/api/v1/alerts/{wanted}")
        assert (status, problem["detail"]) == (
            404,
            f"There is no alert {wanted}; /api/v1/alerts lists the open ones, /api/v1/alerts/history all",
        )
    await database.pool.execute("UPDATE alert_episode SET reason = 'no_data_clear'")
    assert (await send(site, "GET", "/api/v1/alerts/1"))[0] == 404


async def test_ack_is_refused_when_the_alert_or_the_name_is_invalid(site: Server) -> None:
    await measure(site, "freezer-1", m0=9)
    wrong: list[tuple[str, object, int]] = [
        ("/api/v1/alerts/99/ack", {"by": "anna"}, 404),
        (f"/api/v1/alerts/{HUGE}/ack", {"by": "anna"}, 404),
        ("/api/v1/alerts/1/ack", {"by": " "}, 400),
        ("/api/v1/alerts/1/ack", {"by": INVALID_TEXT}, 400),
        ("/api/v1/alerts/1/ack", {"by": "x" * 100_000}, 400),
        ("/api/v1/alerts/1/ack", {"by": 7}, 400),
        ("/api/v1/alerts/one/ack", {"by": "anna"}, 404),
    ]
    for path, body, status in wrong:
        answered, problem = await send(site, "POST", path, body)
        assert (answered, problem["status"]) == (status, status), (path, body)
    assert (await items(site, "/api/v1/alerts"))[0]["acked_by"] is None


async def test_query_parameters_are_refused_when_they_are_invalid(site: Server) -> None:
    await measure(site, "freezer-1", m0=9)
    for path in ("/api/v1/alerts", "/api/v1/alerts/history"):
        for cursor in ("x", ".", "1.", "-1.1", f"1.{HUGE}", f"{HUGE}.1", "9" * 18 + ".1", "\u0661.1", "\u0000"):
            status, problem = await send(site, "GET", f"{path}?cursor={quote(cursor, safe='')}")
            assert (status, problem["status"]) == (400, 400), cursor
        for query in ("limit=0", "limit=1001", "limit=x"):
            assert (await send(site, "GET", f"{path}?{query}"))[0] == 400
        for query in ("rule=%00", "sensor=%00", "rule=%ED%A0%80"):
            status, answer = await send(site, "GET", f"{path}?{query}")
            assert status == 400 or answer["items"] == []
    for cursor in ("x", "-1", str(HUGE), "\u0663\u00b2"):
        assert (await send(site, "GET", f"/api/v1/silences?cursor={quote(cursor)}"))[0] == 400


async def test_silence_is_created_listed_and_ended_early(site: Server) -> None:
    start, end = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)
    body = {
        "matchers": {"sensor": "freezer-*", "tags": {"site": "quay"}},
        "from": start.isoformat(),
        "to": end.astimezone().isoformat(),
        "author": "anna",
        "comment": "defrosting",
    }
    status, created = await send(site, "POST", "/api/v1/silences", body)
    assert status == 201
    assert datetime.fromisoformat(created.pop("created_at")) > start
    assert {**created, "from": None, "to": None} == {
        "id": 1,
        "matchers": {"sensor": "freezer-*", "tags": {"site": "quay"}},
        "from": None,
        "to": None,
        "author": "anna",
        "comment": "defrosting",
    }
    assert (datetime.fromisoformat(created["from"]), datetime.fromisoformat(created["to"])) == (start, end)
    in_short = {"matchers": {"rule": "warm"}, "to": end.isoformat(), "author": "bert"}
    assert (await send(site, "POST", "/api/v1/silences", in_short))[0] == 201
    page: Any = await site.get("/api/v1/silences", limit=1)
    assert ([each["id"] for each in page["items"]], page["next"]) == ([1], "1")
    page = await site.get("/api/v1/silences", limit=1, cursor="1")
    assert ([each["id"] for each in page["items"]], page["next"]) == ([2], None)
    assert await send(site, "DELETE", "/api/v1/silences/1") == (204, None)
    ended, _ = await items(site, "/api/v1/silences")
    assert datetime.fromisoformat(ended["to"]) < datetime.now(UTC)
    assert (await send(site, "DELETE", "/api/v1/silences/1"))[0] == 404
    assert (await send(site, "DELETE", f"/api/v1/silences/{HUGE}"))[0] == 404


LATER = (datetime.now(UTC) + timedelta(hours=1)).isoformat()


async def test_silence_has_no_length_when_it_is_ended_before_it_begins(site: Server) -> None:
    end = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    body = {"matchers": {"rule": "warm"}, "from": LATER, "to": end, "author": "anna"}
    assert (await send(site, "POST", "/api/v1/silences", body))[0] == 201
    assert (await send(site, "DELETE", "/api/v1/silences/1"))[0] == 204
    for silence in await items(site, "/api/v1/silences"):
        assert datetime.fromisoformat(silence["to"]) - datetime.fromisoformat(silence["from"]) < timedelta(seconds=1)


async def test_silence_is_refused_when_its_fields_are_invalid(site: Server) -> None:
    wrong: list[dict[str, Any]] = [
        {"matchers": {}},
        {"matchers": {"tags": {}}},
        {"matchers": {"sensors": "freezer-1"}},
        {"matchers": {"sensor": 7}},
        {"matchers": {"sensor": ""}},
        {"matchers": {"sensor": None}},
        {"matchers": {"sensor": ["freezer-1"]}},
        {"matchers": {"tags": "site"}},
        {"matchers": {"tags": {"site": 7}}},
        {"matchers": {"sensor": INVALID_TEXT}},
        {"matchers": {"tags": {INVALID_TEXT: "a"}}},
        {"matchers": {"tags": dict.fromkeys(map(str, range(33)), "a")}},
        {"matchers": {"sensor": "*" * 201}},
        {"matchers": {"sensor": "\ud800"}},
        {"matchers": {"sensor": "x" * 100_000}},
        {"matchers": {"level": "warm"}},
        {"matchers": "warm"},
        {"author": ""},
        {"author": INVALID_TEXT},
        {"comment": INVALID_TEXT},
        {"to": "2026-13-01T00:00:00Z"},
        {"to": LATER.replace("+00:00", "")},
        {"to": "2020-01-01T00:00:00Z"},
        {"to": "9999-12-31T23:59:59Z"},
        {"from": "0001-01-01T00:00:00+23:59"},
        {"from": LATER, "to": LATER},
        {"until": LATER},
        {"for": "2h"},
        {"to": None},
        {"to": None, "for": "soon"},
        {"to": None, "for": "0"},
        {"to": None, "for": "400d"},
        {"alert": 1},
        {"matchers": {}, "group": True},
    ]
    right = {"matchers": {"rule": "warm"}, "to": LATER, "author": "anna"}
    for change in wrong:
        status, problem = await send(site, "POST", "/api/v1/silences", {**right, **change})
        assert (status, problem["status"]) == (400, 400), change
    assert await items(site, "/api/v1/silences") == []


async def test_rules_show_their_conditions_and_state(site: Server) -> None:
    await measure(site, "freezer-1", m0=9)
    await measure(site, "freezer-2", m1=13)
    await measure(site, "freezer-3", m2=7)
    answer: Any = await site.get("/api/v1/rules")
    warm, damp, falling = answer["items"]
    assert warm == {
        "name": "warm",
        "kind": "threshold",
        "sensors": {"metric": "temperature"},
        "value": "last",
        "holds": False,
        "levels": {"warning": "above 8", "critical": "above 12"},
        "lasting": {},
        "clear": None,
        "when": [],
        "no_data": "alert after 30m",
        "muted_until": None,
        "notify": [],
        "series": 3,
        "firing": {"warning": 1, "critical": 1},
        "evaluated_to": at(2),
        "warnings": [],
    }
    assert damp["sensors"] == {"metric": "humidity", "tags": {"site": "quay"}}
    assert (damp["lasting"], damp["no_data"]) == ({"error": "2m"}, None)
    assert (damp["levels"], damp["series"], damp["evaluated_to"]) == ({"error": "outside 30 to 70.5"}, 0, None)
    assert falling["value"] == "delta 10m"
    assert (answer["problems"], answer["next"]) == ([], None)
    evaluation = answer["last_evaluation"]
    assert (evaluation["pairs"], evaluation["replayed"]) == (1, 1)


async def test_rule_has_a_warning_when_after_is_shorter_than_two_upload_intervals(
    site: Server, database: Database
) -> None:
    await measure(site, "freezer-1", m0=7)
    await database.pool.execute(
        """INSERT INTO gateway (api_key, name, first_upload_at, last_upload_at, intervals_s)
           VALUES ('x', 'environment', now(), now(), ARRAY[3600, 3500, 3700])"""
    )
    await database.pool.execute("UPDATE sensor SET gateway = 'environment'")
    await site.watch_silence()
    warm, *_ = await items(site, "/api/v1/rules")
    assert warm["warnings"] == [
        "no_data after 30m is under twice the 1h between uploads of environment: it will fire between them"
    ]


async def test_requests_are_refused_when_the_key_lacks_the_scope(site: Server) -> None:
    scopes: dict[str, frozenset[Scope]] = {
        "read": frozenset({"read"}),
        "admin": frozenset({"admin"}),
        "all but read": frozenset({"ingest", "admin"}),
        "all but admin": frozenset({"ingest", "read"}),
    }
    keys = {label: await create_key(site.services.pool, label, scope, {}) for label, scope in scopes.items()}
    silence = {"matchers": {"rule": "x"}, "to": LATER, "author": "anna"}
    for method, path, scope, body, status in (
        ("GET", "/api/v1/alerts", "read", None, 200),
        ("GET", "/api/v1/alerts/history", "read", None, 200),
        ("GET", "/api/v1/alerts/1", "read", None, 404),
        ("GET", "/api/v1/silences", "read", None, 200),
        ("GET", "/api/v1/rules", "read", None, 200),
        ("POST", "/api/v1/alerts/1/ack", "admin", {"by": "anna"}, 404),
        ("DELETE", "/api/v1/silences/1", "admin", None, 404),
        ("POST", "/api/v1/silences", "admin", silence, 201),
    ):
        async with aiohttp.ClientSession(site.address) as nobody, nobody.request(method, path, json=body) as response:
            assert response.status == 401
        assert (await send(site, method, path, body, keys[f"all but {scope}"]))[0] == 403
        assert (await send(site, method, path, body, keys[scope]))[0] == status


async def next_alert(client: FeedClient) -> Message:
    """Wait for the next alert frame and return it without its cursor."""
    while True:
        message = await client.receive()
        if message["type"] == "alert":
            assert message.pop("cursor") == client.cursor
            return message


async def test_live_feed_sends_alerts_and_resumes_by_cursor(site: Server) -> None:
    async with live(site) as client:
        await client.snapshot(sensors=["nothing"], alerts=True)
        await measure(site, "freezer-1", m0=9)
        fired = await next_alert(client)
        assert fired == {
            "type": "alert",
            "transition": "firing",
            "id": 1,
            "rule": "warm",
            "kind": "threshold",
            "sensor": "freezer-1",
            "display_name": None,
            "metric": "temperature",
            "gateway": None,
            "tags": {"site": "quay"},
            "unit": "°C",
            "level": "warning",
            "value": 9,
            "fired_value": 9,
            "threshold": 8,
            "message": None,
            "started_at": at(0),
            "fired_at": at(0),
            "resolved_at": None,
            "reason": None,
            "acked_by": None,
            "acked_at": None,
            "acked_level": None,
            "condition": "above",
            "closed_at": None,
            "closed_by": None,
            "closed_note": None,
        }
        cursor = client.cursor
        await measure(site, "freezer-1", m1=13)
        changed = await next_alert(client)
        assert (changed["transition"], changed["level"]) == ("changed", "critical")
        await measure(site, "freezer-1", m2=7)
        resolved = await next_alert(client)
        assert (resolved["transition"], resolved["resolved_at"]) == ("resolved", at(2))
    async with live(site) as client:
        await client.subscribe(sensors=["nothing"], alerts=True, resume=cursor)
        assert [(await next_alert(client))["transition"] for _ in range(2)] == ["changed", "resolved"]


async def test_live_feed_sends_no_alerts_when_the_client_did_not_ask(site: Server) -> None:
    async with live(site) as client:
        await client.snapshot()
        await measure(site, "freezer-1", m0=9)
        await measure(site, "freezer-1", m1=7)
        assert [value for *_, value in await client.values(2)] == [9.0, 7.0]


async def test_live_feed_sends_missing_data_and_ends_of_removed_rules(
    site: Server, database: Database, tmp_path: Path
) -> None:
    await measure(site, "freezer-1", m0=7)
    await measure(site, "freezer-2", m0=9)
    async with live(site) as client:
        await client.snapshot(alerts=True)
        await database.pool.execute(
            "UPDATE series_state SET received_at = now() - INTERVAL '1 hour' WHERE series_id = 1"
        )
        await site.count_silence_from_the_beginning()
        await site.watch_silence()
        silent = await next_alert(client)
        shown = ("transition", "rule", "sensor", "level", "reason")
        assert [silent[name] for name in shown] == ["firing", "warm", "freezer-1", "warning", "no_data"]
        await measure(site, "freezer-1", m1=7)
        back = await next_alert(client)
        assert (back["transition"], back["id"], back["reason"]) == ("resolved", silent["id"], "no_data")
        (tmp_path / "rules.yml").write_text("version: 1\nrules: []\n")
        await site.worker.alerting.keeper.reload(database.pool)
        ended = await next_alert(client)
        assert [ended[name] for name in shown] == ["resolved", "warm", "freezer-2", "warning", "rule removed"]
