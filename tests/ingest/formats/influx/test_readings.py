"""Names of sensors and metrics from line protocol, times in each unit, and refusals field by field."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from influxdb_client.client.write.point import Point

from app.ingest.formats import ReceiptTimes
from app.ingest.formats._tags import find_origin
from app.ingest.formats.influx.lines import read_head
from app.ingest.formats.influx.readings import UNITS_NS, parse
from app.model import Reading
from app.names import tidy_name
from tests.ingest.uploads import T0, as_objects

NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=12).filter(
    lambda name: not name.endswith("\\")
)


@pytest.mark.parametrize(
    ("head", "sensor", "tags"),
    [
        ("weather", "weather", {}),
        ("weather,device=roof", "roof", {}),
        ("cpu,host=pi1,cpu=cpu0", "pi1,cpu=cpu0", {"cpu": "cpu0"}),
        ("m,host=pi1,device=d,zone=a,area=b", "d,area=b,host=pi1,zone=a", {"area": "b", "host": "pi1", "zone": "a"}),
        ("°C,domain=sensor,entity_id=cellar", "cellar,domain=sensor", {"domain": "sensor"}),
        ("m,sensor_id=a,sensor=b", "b,sensor_id=a", {"sensor_id": "a"}),
        ("m,device=Gru\u0308n\\ ", "Grün", {}),
        (r"my\ house,room=living\ room", "my house,room=living room", {"room": "living room"}),
    ],
)
def test_sensor_is_named_by_its_tag_and_keeps_the_others(head: str, sensor: str, tags: dict[str, str]) -> None:
    origin = find_origin(*read_head(head))
    assert (origin.sensor, origin.tags) == (sensor, tags)


def test_metric_is_the_measurement_with_the_field_but_for_value() -> None:
    readings, rejected = _parse('weather,device=roof value=1,wind=2,gust=3i,open=t,text="x"')
    assert rejected == []
    assert readings == [
        Reading("roof", T0, {"weather": 1.0, "weather_wind": 2.0, "weather_gust": 3.0, "weather_open": 1.0})
    ]


@pytest.mark.parametrize("unit", [unit for unit in UNITS_NS if unit not in ("m", "h")])
def test_time_is_read_in_the_unit_of_the_request(unit: str) -> None:
    written = T0 * 1_000 // UNITS_NS[unit]
    for text in (f"m v=1 {written}", f"m v=1i {written}"):
        readings, rejected = _parse(text, unit)
        assert (readings, rejected) == ([Reading("m", T0, {"m_v": 1.0})], [])


def test_lines_without_time_get_the_time_of_receipt_each_a_microsecond_later() -> None:
    readings, _ = _parse("m,host=a v=1,w=2\nm,host=a v=3\nm,host=b v=4")
    assert [(each.sensor, each.time_us, each.values) for each in readings] == [
        ("a", T0, {"m_v": 1.0, "m_w": 2.0}),
        ("a", T0 + 1, {"m_v": 3.0}),
        ("b", T0, {"m_v": 4.0}),
    ]


def test_refused_fields_are_named_and_the_others_are_kept() -> None:
    long = "x" * 201
    text = f"m v=1,w=9007199254740993i 5\nm v=1e101\n\n{long} v=1\nm v=2,w=9007199254740992i"
    readings, rejected = _parse(text)
    assert [(each.time_us, each.values) for each in readings] == [(T0 + 1, {"m_v": 2.0, "m_w": 9007199254740992.0})]
    assert [(each["index"], each["code"], each.get("metric")) for each in rejected] == [
        (0, "time_too_old", "v"),
        (0, "value_not_exact", "w"),
        (1, "value_out_of_range", "v"),
        (3, "sensor_invalid", "v"),
    ]
    assert rejected[0]["message"] == (
        "time is 1970-01-01T00:00:00Z; is the parameter precision, by default ns, that of the times?"
    )


def test_body_of_texts_alone_has_no_readings_and_no_refusals() -> None:
    assert _parse('m,host=a state="on"\nm state="off"') == ([], [])


def test_tags_in_another_order_give_the_same_series() -> None:
    readings, _ = _parse("m,a=1,b=2 v=1 \nm,b=2,a=1 v=2 ")
    assert {each.sensor for each in readings} == {"m,a=1,b=2"}


@given(
    measurement=NAMES.filter(lambda name: not name.startswith("#")),
    tags=st.dictionaries(NAMES, NAMES, max_size=3),
    fields=st.dictionaries(
        NAMES, st.floats(-1e15, 1e15) | st.integers(-(2**50), 2**50) | st.booleans(), min_size=1, max_size=3
    ),
)
def test_points_of_the_official_client_are_read_as_written(
    measurement: str, tags: dict[str, str], fields: dict[str, Any]
) -> None:
    point = Point.from_dict({"measurement": measurement, "tags": tags, "fields": fields, "time": T0 * 1_000})
    readings, rejected = _parse(point.to_line_protocol())
    origin_tags = dict(sorted(tags.items()))
    if rejected:  # names that together are too long
        return
    (reading,) = readings
    assert reading.values == {
        tidy_name(measurement if key == "value" else f"{measurement}_{key}"): float(value)
        for key, value in fields.items()
    }
    assert reading.tags == (origin_tags or None)


def _parse(text: str, unit: str = "ns") -> tuple[list[Reading], list[dict[str, Any]]]:
    parsed = parse(text.encode(), ReceiptTimes(T0), UNITS_NS[unit])
    rejected = [
        {
            "index": each.index,
            "code": each.code,
            "message": each.message,
            **({"metric": each.metric} if each.metric else {}),
        }
        for each in parsed.rejected.listed
    ]
    return as_objects(parsed.readings), rejected


@pytest.mark.parametrize("word", ["nan", "NaN", "-inf", "+Inf", "inf", "1e999", "-nan", "INFINITY"])
def test_value_that_is_no_number_is_refused_alone(word: str) -> None:
    for text in (
        f"m v=1,w={word},x=2",
        f"m w={word},v=1,x=2",
        f"m v=1\nm w={word}\nm x=2",
        f'm v=1,w={word},x=2,s="a"',
    ):
        readings, rejected = _parse(text)
        assert {name: value for each in readings for name, value in each.values.items()} == {"m_v": 1.0, "m_x": 2.0}
        assert [(each["code"], each["metric"]) for each in rejected] == [("value_out_of_range", "w")]


def test_byte_order_mark_before_the_first_line_is_left_out() -> None:
    readings, rejected = _parse("\ufeffm v=1")
    assert ([each.values for each in readings], rejected) == ([{"m_v": 1.0}], [])
