"""Filters of clients follow tags, gateways and old names of sensors."""

import msgspec

from app.live.frames import Frame
from app.live.labels import Labels
from app.live.protocol import Cursor, Filter
from tests.conftest import Database

INSERT = "INSERT INTO sensor (name, created_by, tags, gateway) VALUES ($1, 'test', $2, $3)"


def frame(sensor: str) -> Frame:
    readings = [{"sensor": sensor, "time": "2026-06-01T08:00:00Z", "values": {"x": 1.0}}]
    return Frame(Cursor("e", 1), "readings", msgspec.json.encode({"readings": readings}))


async def test_filter_follows_tags_and_gateways_of_sensors_until_it_is_removed(database: Database) -> None:
    await database.pool.execute(INSERT, "a", {"room": "cold"}, "gw-1")
    labels, cold = Labels(), Filter(["*"], ["*"], {"room": "c*"}, "gw-*")
    assert not cold.takes("a")
    await labels.add(cold, database.pool)
    assert cold.takes("a")
    await database.pool.execute("UPDATE sensor SET gateway = 'other'")
    await labels.read(database.pool)
    assert not cold.takes("a")
    labels.remove(cold)
    await database.pool.execute("UPDATE sensor SET gateway = 'gw-2'")
    await labels.read(database.pool)
    assert not cold.takes("a")


async def test_filter_takes_a_renamed_sensor_by_its_old_name(database: Database) -> None:
    await database.pool.execute(INSERT, "new", {}, None)
    await database.pool.execute("INSERT INTO sensor_alias (name, sensor_id) SELECT 'old', id FROM sensor")
    labels, wanted = Labels(), Filter(["o*"], ["*"])
    assert not wanted.takes("new")
    await labels.add(wanted, database.pool)
    assert wanted.takes("new")


async def test_labels_are_read_again_when_a_frame_has_a_sensor_that_was_not_seen(database: Database) -> None:
    labels, cold = Labels(), Filter(["*"], ["*"], {"room": "cold"})
    await labels.add(cold, database.pool)
    await database.pool.execute(INSERT, "a", {"room": "cold"}, None)
    await labels.read_if_unknown(database.pool, [frame("a")])
    assert cold.takes("a")
    # A sensor that was seen is not looked up again: a change of its tags is read from time to time.
    await database.pool.execute("UPDATE sensor SET tags = '{}'")
    await labels.read_if_unknown(database.pool, [frame("a")])
    assert cold.takes("a")
    await labels.read_if_unknown(database.pool, [frame("b")])
    assert not cold.takes("a")


async def test_filter_of_all_sensors_asks_the_database_for_nothing_and_decodes_no_frame(database: Database) -> None:
    labels, frames = Labels(), iter([frame("a")])
    await labels.add(Filter(["*"], ["x"]), database.pool)
    database.pool.terminate()
    await labels.read_if_unknown(database.pool, frames)
    assert next(frames, None) is not None
