import pytest

from app.auth.keys import IMPORT_LABEL, ApiKey, Binding
from app.ingest.gateways.owners import OwnNames, list_claims, may_describe, refuse_foreign
from app.ingest.series.descriptions import Description, Sensor
from app.ingest.uploads.upload import Upload
from tests.ingest.uploads import reading, upload


def sensor(created_by: str, owner: str | None, number: int = 1) -> Sensor:
    return Sensor(number, "a", created_by, owner, {}, Description(), Description())


def sent(label: str, gateway: str | None, binding: Binding | None = None) -> Upload:
    key = ApiKey(label, frozenset({"ingest"}), binding=binding)
    return upload(reading("a"), gateway=gateway, api_key=key)


@pytest.mark.parametrize(
    ("created_by", "owner", "label", "gateway", "is_foreign"),
    [
        ("roof", "gw-1", "roof", "gw-1", False),
        ("roof", "gw-1", "roof", "gw-2", True),
        # A body that names no gateway is of the key that registered the sensor.
        ("roof", "gw-1", "roof", None, False),
        ("roof", "gw-1", "cellar", None, True),
        # Without an owner: of the key, and of the gateway that is named like the key.
        ("roof", None, "roof", None, False),
        ("roof", None, "cellar", "roof", False),
        ("roof", None, "cellar", "gw-1", True),
        (IMPORT_LABEL, None, "cellar", "gw-1", False),
    ],
)
def test_sensor_is_foreign_when_another_gateway_has_registered_it(
    created_by: str, owner: str | None, label: str, gateway: str | None, is_foreign: bool
) -> None:
    foreign = OwnNames().find_foreign(sent(label, gateway), {"a": sensor(created_by, owner)})
    assert [name for name, _ in foreign] == (["a"] if is_foreign else [])


def test_sensor_that_is_not_known_yet_is_not_foreign() -> None:
    assert OwnNames().find_foreign(sent("roof", "gw-1"), {}) == []


@pytest.mark.parametrize(
    ("binding", "claimed"),
    [
        (None, []),
        (Binding("gw-2"), []),
        (Binding("gw-2", "a*"), [1]),
        (Binding("gw-2", None, "gw-2/"), [1]),
    ],
)
def test_bound_key_takes_over_sensors_without_an_owner_when_it_names_its_own(
    binding: Binding | None, claimed: list[int]
) -> None:
    foreign = [("a", sensor("roof", None, 1)), ("b", sensor("roof", "gw-1", 2))]
    assert list_claims(sent("cellar", "gw-2", binding), foreign) == claimed


def test_tags_count_when_the_upload_is_of_the_key_that_registered_the_sensor() -> None:
    assert may_describe(sensor("roof", None), sent("roof", None))
    assert not may_describe(sensor("roof", "gw-1"), sent("cellar", "gw-2", Binding("gw-2")))


def test_refusal_names_the_owner_and_the_remedy() -> None:
    code, message = refuse_foreign("a", sensor("roof", "gw-1"), sent("cellar", "gw-2", Binding("gw-2")))
    assert code == "sensor_of_other_gateway"
    assert message == (
        "sensor 'a' was registered by the gateway 'gw-1', not by the gateway 'gw-2' of this key; give the key a "
        "--prefix, or set the sensor's owner"
    )
