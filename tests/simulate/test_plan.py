import msgspec
import pytest

from app.errors import SettingsError
from app.simulate.plan import Plan

PLAN = Plan(url="http://127.0.0.1:8000", key="key")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "127.0.0.1:8000"}, "it must look like http://127.0.0.1:8000"),
        ({"url": "http://[::1"}, "it must look like"),
        ({"url": "http://127.0.0.1:99999"}, "it must look like"),
        ({"speed": 2.0}, "--speed needs --for"),
        ({"every_us": 999}, "--every and --batch must be at least 1ms"),
        ({"batch_us": 0}, "--every and --batch must be at least 1ms"),
    ],
)
def test_plan_is_refused_when_it_cannot_be_simulated(change: dict[str, object], message: str) -> None:
    PLAN.check()
    with pytest.raises(SettingsError) as refused:
        msgspec.structs.replace(PLAN, **change).check()
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("plan", "limit"),
    [
        (Plan(url="", key="", sensors=4, every_us=5_000_000), 100_000),
        # Twice 1,000 sensors in 8 minutes at a reading a second.
        (Plan(url="", key="", sensors=1_000, every_us=1_000_000), 960_000),
        (Plan(url="", key="", buffer_readings=7), 7),
    ],
)
def test_gateway_buffers_twice_its_longest_offline_period(plan: Plan, limit: int) -> None:
    assert plan.buffer_limit == limit
