import msgspec

from app.alerting.language.channels import ChannelFields, channel_fields


class Loft(msgspec.Struct, frozen=True):
    place: str
    rings: dict[str, str] = {}
    pin_token: str | None = None


def test_fields_of_a_channel_are_derived_from_its_settings() -> None:
    assert channel_fields(Loft) == ChannelFields(
        required=frozenset({"place"}), optional=frozenset({"rings", "pin_token"}), mappings=frozenset({"rings"})
    )
