from pathlib import Path

import pytest

from app.errors import SettingsError
from app.mqtt.model import MqttMessage
from app.mqtt.stamps import Stamps


def message(packet_id: int, at: int, payload: bytes = b"21.5", is_repeated: bool = False, qos: int = 1) -> MqttMessage:
    return MqttMessage("t/a", payload, at, qos, packet_id, is_repeated)


def test_message_that_is_delivered_again_keeps_its_stamp_when_the_bridge_was_killed(tmp_path: Path) -> None:
    first = Stamps(tmp_path / "stamps")
    assert first.stamp(message(1, 1_000)) == 1_000
    first.save()
    # Nothing closes the file of a process that is killed.
    second = Stamps(tmp_path / "stamps")
    assert second.stamp(message(1, 2_000, is_repeated=True)) == 1_000
    assert second.stamp(message(1, 3_000, is_repeated=True)) == 1_000
    first.close()
    second.close()


@pytest.mark.parametrize(
    "other",
    [message(1, 2_000), message(2, 2_000, is_repeated=True), message(1, 2_000, b"21.6", is_repeated=True)],
    ids=["not repeated", "another packet id", "another payload"],
)
def test_other_message_gets_a_stamp_of_its_own(tmp_path: Path, other: MqttMessage) -> None:
    stamps = Stamps(tmp_path / "stamps")
    stamps.stamp(message(1, 1_000))
    assert stamps.stamp(other) == 2_000
    stamps.close()


def test_stamp_is_forgotten_once_the_broker_has_the_acknowledgement(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path / "stamps")
    acknowledged = message(1, 1_000)
    stamps.stamp(acknowledged)
    stamps.save()
    stamps.forget([acknowledged])
    stamps.save()
    stamps.close()
    # A message that has the packet id now, and that was lost on its way when it came first, is another one.
    again = Stamps(tmp_path / "stamps")
    assert again.stamp(message(1, 2_000, is_repeated=True)) == 2_000
    again.close()


def test_stamp_of_a_later_message_stays_when_an_earlier_one_with_its_packet_id_is_forgotten(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path / "stamps")
    earlier, later = message(1, 1_000), message(1, 2_000)
    stamps.stamp(earlier)
    stamps.stamp(later)
    stamps.forget([earlier])
    assert stamps.stamp(message(1, 3_000, is_repeated=True)) == 2_000
    stamps.close()


def test_message_of_qos_0_has_no_packet_id_and_keeps_no_stamp(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path / "stamps")
    assert stamps.stamp(message(0, 1_000, qos=0)) == 1_000
    assert len(stamps) == 0
    stamps.close()


def test_filters_that_were_subscribed_to_once_are_told(tmp_path: Path) -> None:
    stamps = Stamps(tmp_path / "stamps")
    assert stamps.add_filters(["a/+", "b"]) == ()
    assert stamps.add_filters(["a/+", "c"]) == ("b",)
    assert stamps.add_filters(["b"]) == ("a/+", "c")
    stamps.close()


def test_broken_file_is_put_aside(tmp_path: Path) -> None:
    file = tmp_path / "stamps"
    file.write_bytes(b"no database" * 1_000)
    Stamps(file).close()
    assert (tmp_path / "stamps.broken").read_bytes().startswith(b"no database")


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"cannot be written: .* set DATA_DIR"):
        Stamps(tmp_path / "file" / "stamps")
