import pytest

from app.ingest.formats._tags import find_origin


@pytest.mark.parametrize(
    ("tags", "sensor", "kept"),
    [
        ({}, "weather", {}),
        ({"host": "pi1"}, "pi1", {}),
        ({"host": "pi1", "device": "d7"}, "d7,host=pi1", {"host": "pi1"}),
        ({"zone": "b", "sensor": "cellar", "area": "a"}, "cellar,area=a,zone=b", {"area": "a", "zone": "b"}),
        ({"site": "harbour"}, "weather,site=harbour", {"site": "harbour"}),
    ],
)
def test_sensor_is_named_by_the_first_tag_that_names_one_and_by_all_others(
    tags: dict[str, str], sensor: str, kept: dict[str, str]
) -> None:
    assert find_origin("weather", tags) == (sensor, kept)
