"""The series that a request names."""

import re
from datetime import UTC, datetime

import pytest

from app.errors import InvalidRequestError, NoSuchSensorError, NotFoundError
from app.trends.series import find_sensor_ids, find_series
from tests.conftest import Database
from tests.trends.storage import store_series

AT = datetime(2026, 6, 1, tzinfo=UTC)


async def store(database: Database) -> None:
    for sensor, metric in (("b", "x"), ("a", "y"), ("a", "x")):
        await store_series(database.pool, sensor, metric, [(AT, 1.0)])
    await database.pool.execute(
        "INSERT INTO sensor_alias (name, sensor_id) SELECT 'old', id FROM sensor WHERE name = 'a'"
    )


async def test_series_are_every_combination_that_exists_in_the_order_of_the_request(database: Database) -> None:
    await store(database)
    found = await find_series(database.pool, ["b", "a"], ["y", "x"])
    assert [(each.sensor, each.metric) for each in found] == [("b", "x"), ("a", "y"), ("a", "x")]
    found = await find_series(database.pool, ["a", "b"], None)
    assert [(each.sensor, each.metric) for each in found] == [("a", "x"), ("a", "y"), ("b", "x")]


async def test_sensor_is_found_once_when_it_is_asked_for_by_its_old_name_too(database: Database) -> None:
    await store(database)
    found = await find_series(database.pool, ["old", "a", "old"], ["x"])
    assert [(each.sensor, each.metric) for each in found] == [("a", "x")]
    assert len(await find_sensor_ids(database.pool, ["old", "a"])) == 1


async def test_what_does_not_exist_is_named_with_what_does(database: Database) -> None:
    await store(database)
    with pytest.raises(NoSuchSensorError, match="There is no sensor 'c'"):
        await find_series(database.pool, ["a", "c"], None)
    with pytest.raises(NotFoundError, match=re.escape("Sensor 'a' has no metric 'z'; it has x, y")):
        await find_series(database.pool, ["a"], ["z"])
    with pytest.raises(NotFoundError, match=re.escape("None of the 2 sensors has a metric 'z'; they have x, y")):
        await find_series(database.pool, ["a", "b"], ["z"])
    with pytest.raises(InvalidRequestError):
        await find_series(database.pool, ["a"], ["\0"])
