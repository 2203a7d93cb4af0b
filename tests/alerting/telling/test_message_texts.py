"""The literal texts of the messages of `message_situations` on Slack, Telegram, a webhook and by e-mail."""

import pytest

from tests.alerting.telling.message_situations import CASES, CHANNELS, FOLDER, text_of


def expected(channel: str) -> dict[str, str]:
    """Return the texts of a channel's file by situation."""
    parts = (FOLDER / f"{channel}.txt").read_text(encoding="utf-8").split("### ")[1:]
    return {name: text.strip() for name, _, text in (part.partition("\n") for part in parts)}


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_situation_has_a_text_and_no_text_is_left_over(channel: str) -> None:
    assert list(expected(channel)) == list(CASES)
    assert len(CASES) >= 30


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("name", CASES)
def test_message_reads_as_written_when_situation_is(name: str, channel: str) -> None:
    assert text_of(channel, CASES[name]().message()).strip() == expected(channel)[name]
