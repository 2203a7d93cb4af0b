import pytest

from app.alerting.language.channel_secrets import MissingSecretError, is_secret, missing_secrets, resolve_fields
from app.alerting.rules.model import FieldValue

FIELDS: dict[str, FieldValue] = {
    "url": "https://relay.example/${PATH_KEY}/x",
    "headers": {"Authorization": "Bearer ${TOKEN}", "X-Site": "Kiel", "X-Again": "${TOKEN}"},
}


def test_fields_contain_the_secrets_when_resolved() -> None:
    assert resolve_fields(FIELDS, {"PATH_KEY": "k1", "TOKEN": "$1\\1${X}"}) == {
        "url": "https://relay.example/k1/x",
        "headers": {"Authorization": "Bearer $1\\1${X}", "X-Site": "Kiel", "X-Again": "$1\\1${X}"},
    }


def test_error_names_each_variable_once_when_not_set_or_empty() -> None:
    assert missing_secrets(FIELDS, {"TOKEN": ""}) == ("PATH_KEY", "TOKEN")
    with pytest.raises(MissingSecretError, match="set the environment variable PATH_KEY and TOKEN") as raised:
        resolve_fields(FIELDS, {})
    assert raised.value.names == ("PATH_KEY", "TOKEN")


@pytest.mark.parametrize("name", ["bot_token", "webhook_url", "secret", "Authorization", "X-Api-Key", "password"])
def test_field_is_a_secret_by_its_name(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["chat_id", "url", "headers", "X-Site", "Accept-Language"])
def test_field_is_not_a_secret_by_its_name(name: str) -> None:
    assert not is_secret(name)
