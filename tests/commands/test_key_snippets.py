import re

import pytest

from app.commands.key_snippets import write_snippets
from app.settings import Settings


@pytest.mark.parametrize(
    ("settings", "address", "host", "port", "has_tls", "path"),
    [
        (Settings(host="0.0.0.0", port=8123), "http://127.0.0.1:8123", "127.0.0.1", "8123", "false", None),
        (Settings(host="::1"), "http://[::1]:8000", "::1", "8000", "false", None),
        (Settings(root_path="/tide"), "http://127.0.0.1:8000/tide", "127.0.0.1", "8000", "false", "/tide"),
        (Settings(public_url="https://t.example/"), "https://t.example", "t.example", "443", "true", None),
        (Settings(public_url="http://t.example"), "http://t.example", "t.example", "80", "false", None),
    ],
)
def test_examples_have_the_address_at_which_the_server_is_reached(
    settings: Settings, address: str, host: str, port: str, has_tls: str, path: str | None
) -> None:
    text = write_snippets("tg_key", settings, None)
    assert f'curl "{address}/api/v1/readings" -H "X-API-Key: tg_key"' in text
    assert f'urls = ["{address}"]' in text
    for name, value in (("host", host), ("port", port), ("ssl", has_tls)):
        assert re.search(rf"^  {name}: (.*)$", text, re.MULTILINE)[1] == value  # type: ignore[index]
    found = re.search(r"^  path: (.*)$", text, re.MULTILINE)
    assert (found and found[1]) == path


def test_examples_name_the_gateway_of_a_bound_key() -> None:
    text = write_snippets("tg_key", Settings(), "harbour")
    assert text.endswith("\n\nReadings sent with this key are those of the gateway harbour.")
