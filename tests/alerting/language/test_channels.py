import msgspec

from app.alerting.language.channels import fields_of_channels
from app.alerting.rules.model import ChannelFields


class Loft(msgspec.Struct, frozen=True):
    place: str
    rings: dict[str, str] = {}
    pin_token: str | None = None


def test_fields_of_a_channel_are_those_of_its_settings() -> None:
    assert fields_of_channels({"pigeon": Loft}) == {
        "pigeon": ChannelFields(
            required=frozenset({"place"}), optional=frozenset({"rings", "pin_token"}), named=frozenset({"rings"})
        )
    }
