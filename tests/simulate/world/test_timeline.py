import asyncio

import pytest

from app.clock import HOUR_US, MINUTE_US, SECOND_US
from app.errors import SettingsError
from app.simulate.plan import Plan
from app.simulate.world.timeline import EventTimeline

#: 2026-06-01T00:00:00Z
NOW_US = 1_780_272_000_000_000


def make_plan(**options: object) -> Plan:
    return Plan(url="http://127.0.0.1:8000", key="key", **options)  # type: ignore[arg-type]


def test_timeline_has_no_end_when_no_duration_is_given() -> None:
    timeline = EventTimeline.of(make_plan(history_us=HOUR_US), NOW_US)
    assert (timeline.start_us, timeline.live_us, timeline.end_us) == (NOW_US - HOUR_US, NOW_US, None)
    assert not timeline.is_over


def test_timeline_reaches_the_present_at_its_end_when_it_runs_fast() -> None:
    timeline = EventTimeline.of(make_plan(duration_us=10 * MINUTE_US, speed=6, history_us=HOUR_US), NOW_US)
    assert timeline.end_us == NOW_US + 10 * MINUTE_US
    assert timeline.live_us == NOW_US - 50 * MINUTE_US
    assert timeline.start_us == NOW_US - 110 * MINUTE_US


def test_timeline_stands_still_when_it_is_over() -> None:
    real_time_s = [100.0]
    timeline = EventTimeline(NOW_US, NOW_US, NOW_US + MINUTE_US, speed=10, clock=lambda: real_time_s[0])
    real_time_s[0] = 105.0
    assert (timeline.now_us(), timeline.is_over) == (NOW_US + 50 * SECOND_US, False)
    real_time_s[0] = 107.0
    assert (timeline.now_us(), timeline.is_over) == (NOW_US + MINUTE_US, True)
    assert timeline.over_since == 106.0


async def test_sleep_ends_when_the_timeline_is_stopped() -> None:
    timeline = EventTimeline(NOW_US, NOW_US, None)
    sleeping = asyncio.create_task(timeline.sleep_until(NOW_US + HOUR_US))
    asyncio.get_running_loop().call_soon(timeline.stop)
    async with asyncio.timeout(5):
        await sleeping
    assert timeline.is_over


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "127.0.0.1:8000"}, "The URL is '127.0.0.1:8000'; it must look like http://127.0.0.1:8000"),
        ({"url": "http://"}, "The URL is 'http://'; it must look like http://127.0.0.1:8000"),
        ({"url": "http://h:port"}, "The URL is 'http://h:port'; it must look like http://127.0.0.1:8000"),
        ({"speed": 2}, "--speed needs --for: without an end it is not known how far in the past to start"),
        ({"every_us": 0}, "--every and --batch must be at least 1ms"),
    ],
)
def test_plan_is_refused_when_it_cannot_be_simulated(options: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Plan(**{"url": "http://127.0.0.1:8000", "key": "key", **options}).check()  # type: ignore[arg-type]
    assert str(refusal.value) == message


def test_buffer_limit_covers_twice_the_longest_offline_period_when_there_are_many_sensors() -> None:
    assert make_plan().buffer_limit == 100_000
    assert make_plan(sensors=10_000).buffer_limit == 1_920_000
    assert make_plan(sensors=10_000, buffer_readings=3).buffer_limit == 3
