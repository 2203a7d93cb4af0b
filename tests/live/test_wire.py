"""Frames that are written without the library read back as the same messages."""

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from app.live.wire import frame_text


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 2**16 - 1, 2**16, 2**16 + 1])
def test_a_client_reads_a_frame_of_any_length_as_one_message(size: int) -> None:
    client = ClientProtocol(parse_uri("ws://localhost/"), state=OPEN, max_size=None)
    text = b"x" * size
    client.receive_data(frame_text(text) * 2)
    assert client.events_received() == [Frame(Opcode.TEXT, text), Frame(Opcode.TEXT, text)]
