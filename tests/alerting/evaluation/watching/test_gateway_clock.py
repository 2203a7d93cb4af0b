"""Alerts about clocks of gateways: by themselves, over HTTP, and in messages."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from app.alerting.evaluation.watching.gateway_clock import is_right, is_wrong
from app.clock import SECOND_US
from tests.alerting.evaluation.watching.test_no_data import ALERTING, advance_without_data
from tests.alerting.harness import AlertingHarness
from tests.conftest import Database, Server

HOUR_S = 3_600.0
IN_1980 = 46 * 365.25 * 86_400


def every(seconds: float, skews_s: list[float]) -> bool:
    """Return whether uploads at this interval, with these skews, show a wrong clock."""
    return is_wrong(skews_s, [round(number * seconds * SECOND_US) for number in range(len(skews_s))])


@pytest.mark.parametrize(
    ("skews_s", "wrong"),
    [
        ([-61, -61], False),
        ([-61, -61, -61], True),
        ([0.1, -61, -70, -10_800], True),
        ([-61, -61, -60], False),
        ([-61, 0, -61, -61], False),
        ([-61, -61, -61, 0], False),
        ([IN_1980] * 3, True),
        ([IN_1980, IN_1980, 1], False),
    ],
)
def test_clock_that_is_ahead_or_in_1980_is_wrong_when_three_uploads_in_a_row_show_it(
    skews_s: list[float], wrong: bool
) -> None:
    for seconds in (0.01, 60):
        assert every(seconds, skews_s) is wrong


def test_clock_that_is_behind_is_wrong_when_its_lag_stays() -> None:
    assert every(60, [7_200.0, 7_203.0, 7_199.5])
    assert every(1, [120 + Random(7).random() for _ in range(20)])
    assert not every(60, [59.0, 59.0, 59.0])
    assert not every(60, [7_200.0, 7_203.0])


@pytest.mark.parametrize("speed", [1.5, 2, 10, 100])
@pytest.mark.parametrize("seconds", [0.1, 1, 60])
def test_gateway_that_catches_up_is_not_taken_for_one_whose_clock_is_behind(speed: float, seconds: float) -> None:
    lags_s = [max(86_400 - number * seconds * (speed - 1), 0) for number in range(20)]
    for count in range(1, 21):
        assert not every(seconds, lags_s[:count])


def test_gateway_that_sends_the_same_batch_again_is_not_taken_for_one_whose_clock_is_behind() -> None:
    assert not every(10, [600.0 + 10 * number for number in range(20)])


@pytest.mark.parametrize(("skews_s", "right"), [([], False), ([-29.9], True), ([99, 29.9], True), ([30.0], False)])
def test_clock_is_right_again_below_30_seconds(skews_s: list[float], right: bool) -> None:
    assert is_right(skews_s) is right


# Over HTTP


async def upload(server: Server, gateway: str, ahead: timedelta, times: int = 3) -> list[Any]:
    """Upload so often, by a clock that is ahead, and return the answers."""
    answers = []
    for _ in range(times):
        time = (datetime.now(UTC) + ahead).isoformat()
        reading = {"sensor": f"{gateway}-1", "time": time, "values": {"temperature": 4}}
        async with server.http.post("/api/v1/readings", json={"gateway": gateway, "readings": [reading]}) as response:
            answers.append(await response.json())
    await server.services.ingest.gateways.write(server.services.ingest_pool)
    await server.watch_silence()
    return answers


async def clock_alerts(server: Server) -> list[tuple[Any, ...]]:
    found: Any = await server.get("/api/v1/alerts")
    return [
        (each["gateway"], each["level"], each["state"], each["reason"])
        for each in found["items"]
        if each["rule"] == "gateway-clock"
    ]


async def gateways(server: Server) -> dict[str, Any]:
    found: Any = await server.get("/api/v1/gateways")
    return {each["name"]: each for each in found["items"]}


WHAT = "readings are refused or have wrong times; let the gateway set its clock by NTP, and check its time zone"


async def test_clock_of_a_gateway_is_told_although_all_its_readings_are_refused(server: Server) -> None:
    ahead = await upload(server, "ahead", timedelta(hours=3))
    assert [(answer["accepted"], answer["rejected"][0]["code"]) for answer in ahead] == [(0, "time_in_future")] * 3
    await upload(server, "fool", datetime(1980, 1, 1, tzinfo=UTC) - datetime.now(UTC))
    await upload(server, "well", timedelta(seconds=-1))
    years = (datetime.now(UTC) - datetime(1980, 1, 1, tzinfo=UTC)).days / 365.25
    assert sorted(await clock_alerts(server)) == [
        ("ahead", "warning", "firing", f"clock 3 h ahead: {WHAT}"),
        ("fool", "warning", "firing", f"clock {years:.0f} years behind: {WHAT}"),
    ]
    listed = await gateways(server)
    assert {name: each["clock"] for name, each in listed.items()} == {"ahead": "ahead", "fool": "behind", "well": "ok"}
    assert -10_810 < listed["ahead"]["skew_s"] < -10_790
    assert (listed["ahead"]["rejected"], listed["ahead"]["last_taken"]) == ({"time_in_future": 3}, None)
    assert (listed["ahead"]["rejected_count"], listed["fool"]["rejected"]) == (3, {"time_too_old": 3})


async def test_alert_about_a_clock_begins_with_the_third_upload_and_ends_below_30_seconds(server: Server) -> None:
    await upload(server, "roof", timedelta(minutes=5), times=2)
    assert await clock_alerts(server) == []
    await upload(server, "roof", timedelta(minutes=5), times=1)
    assert await clock_alerts(server) == [("roof", "warning", "firing", f"clock 5 min ahead: {WHAT}")]
    await upload(server, "roof", timedelta(seconds=40), times=4)
    assert len(await clock_alerts(server)) == 1
    await upload(server, "roof", timedelta(seconds=20), times=1)
    assert await clock_alerts(server) == []
    assert (await gateways(server))["roof"]["clock"] == "ok"
    history: Any = await server.get("/api/v1/alerts/history")
    assert [(each["kind"], each["state"]) for each in history["items"]] == [("clock", "resolved")]


async def test_alert_about_a_clock_ends_when_the_gateway_has_been_away_for_a_week(
    server: Server, database: Database
) -> None:
    await upload(server, "roof", timedelta(minutes=5))
    await database.pool.execute("UPDATE gateway SET last_upload_at = now() - INTERVAL '8 days'")
    await server.watch_silence()
    assert await clock_alerts(server) == []
    history: Any = await server.get("/api/v1/alerts/history")
    assert history["items"][0]["reason"] == "no longer watched"


# In messages


async def note(
    harness: AlertingHarness, seconds_ago: float, skew_s: float, times: int, refused_for: str | None
) -> None:
    """Store what the API counts of a gateway whose last upload came so long ago."""
    await harness.pool.execute(
        """INSERT INTO gateway (api_key, name, first_upload_at, last_upload_at, skew_s, skews_s, skews_at, refused_for)
           VALUES ('API_KEY', 'gw', now(), now() - $1 * INTERVAL '1 second', $2::float8,
                   array_fill($2::float8, ARRAY[$3::int]),
                   array_fill(now(), ARRAY[$3::int]), $4)
           ON CONFLICT (api_key, name) DO UPDATE SET
               last_upload_at = excluded.last_upload_at, skew_s = excluded.skew_s, skews_s = excluded.skews_s,
               skews_at = excluded.skews_at, refused_for = excluded.refused_for""",
        seconds_ago,
        skew_s,
        times,
        refused_for,
    )


async def test_channels_of_rules_on_missing_data_are_told_of_a_clock_and_of_its_end(harness: AlertingHarness) -> None:
    await harness.use_rules(ALERTING)
    await note(harness, 1, -3 * HOUR_S, 3, "time_in_future")
    await harness.check_no_data()
    await harness.advance(1)
    assert harness.messages() == ["1 warning: gateway-clock [gateway gw]"]
    assert harness.notes() == [f"clock 3 h ahead: {WHAT}"]
    await note(harness, 1, 0.5, 1, None)
    await harness.check_no_data()
    assert harness.messages()[1:] == ["1 resolved: gateway-clock [gateway gw]"]
    assert harness.notes() == ["the clock is right again"]


@pytest.mark.parametrize(
    ("skew_s", "refused_for", "says"),
    [
        (-3 * HOUR_S, "time_in_future", "; uploads arrive, all refused: clock 3 h ahead"),
        (1.0, "sensor_not_allowed", "; uploads arrive, all refused: sensor_not_allowed"),
        (1.0, None, ": check its power and its network"),
    ],
)
async def test_alert_of_missing_data_says_that_uploads_arrive_and_are_refused(
    harness: AlertingHarness, skew_s: float, refused_for: str | None, says: str
) -> None:
    await harness.use_rules(ALERTING)
    await harness.upload("freezer-1", (0, 7.5), gateway="gw")
    await note(harness, 0, skew_s, 1, refused_for)
    await advance_without_data(harness)
    (said,) = harness.notes()
    assert said.startswith("no data since ")
    assert said.partition(" UTC")[2] == f", 1 sensor is silent{says}"
