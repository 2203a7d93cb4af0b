import pytest

from app.alerting.rules.channel_secrets import (
    ForbiddenReferenceError,
    MissingSecretError,
    is_secret,
    missing_secrets,
    resolve_fields,
)
from app.alerting.rules.model import FieldValue

FIELDS: dict[str, FieldValue] = {
    "url": "https://relay.example/${CHANNEL_PATH}/x",
    "headers": {"Authorization": "Bearer ${CHANNEL_TOKEN}", "X-Site": "Kiel", "X-Again": "${CHANNEL_TOKEN}"},
}


def test_fields_contain_the_secrets_when_resolved() -> None:
    assert resolve_fields(FIELDS, {"CHANNEL_PATH": "k1", "CHANNEL_TOKEN": "$1\\1${X}"}) == {
        "url": "https://relay.example/k1/x",
        "headers": {"Authorization": "Bearer $1\\1${X}", "X-Site": "Kiel", "X-Again": "$1\\1${X}"},
    }


def test_error_names_each_variable_once_when_not_set_or_empty() -> None:
    assert missing_secrets(FIELDS, {"CHANNEL_TOKEN": ""}) == ("CHANNEL_PATH", "CHANNEL_TOKEN")
    with pytest.raises(
        MissingSecretError, match="set the environment variable CHANNEL_PATH and CHANNEL_TOKEN"
    ) as raised:
        resolve_fields(FIELDS, {})
    assert raised.value.names == ("CHANNEL_PATH", "CHANNEL_TOKEN")


@pytest.mark.parametrize("name", ["API_KEY", "DATABASE_URL", "CHANNELS", "channel_x", "XCHANNEL_X"])
def test_fields_are_not_resolved_when_they_refer_to_a_variable_that_is_not_for_channels(name: str) -> None:
    stored: dict[str, FieldValue] = {"url": "https://pager.example/", "headers": {"X-Stolen": f"${{{name}}}"}}
    with pytest.raises(ForbiddenReferenceError, match=f'channels may not use "\\${{{name}}}": set CHANNEL_{name}'):
        resolve_fields(stored, {name: "hidden", "CHANNEL_X": "hidden"})


@pytest.mark.parametrize("name", ["bot_token", "webhook_url", "secret", "Authorization", "X-Api-Key", "password"])
def test_field_is_a_secret_by_its_name(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["chat_id", "url", "headers", "X-Site", "Accept-Language"])
def test_field_is_not_a_secret_by_its_name(name: str) -> None:
    assert not is_secret(name)
