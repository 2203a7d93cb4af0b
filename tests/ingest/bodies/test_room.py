import pytest

from app.errors import OverloadedError
from app.ingest.bodies.room import BODIES_LIMIT, BodyRoom, HeldRoom


def test_bodies_share_a_limit_and_a_refused_piece_takes_no_room() -> None:
    room = BodyRoom()
    with HeldRoom(room) as first, HeldRoom(room) as second:
        first.take(BODIES_LIMIT - 10)
        with pytest.raises(OverloadedError, match="Bodies of 128 MiB are being received already"):
            second.take(11)
        second.take(10)
        with pytest.raises(OverloadedError):
            first.take(1)


def test_room_is_given_back_when_its_request_ends_also_by_an_error() -> None:
    room = BodyRoom()

    def fail() -> None:
        with HeldRoom(room) as held:
            held.take(BODIES_LIMIT)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    with HeldRoom(room) as held:
        held.take(BODIES_LIMIT)
