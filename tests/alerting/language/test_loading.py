from pathlib import Path

import pytest

from app.alerting.language.loading import channel_fields, load_checked, load_unsent
from app.alerting.rules.model import CHANNEL_FIELDS
from app.alerting.rules.problems import RuleErrors
from app.settings import Settings

CHANNELS = """\
version: 1
channels:
  a: {type: slack, webhook_url: "${SLACK_WEBHOOK_URL}"}
  b: {type: webhook, url: "${HOOK}"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "channels.yml").write_text(CHANNELS)
    return tmp_path


def test_types_of_channels_are_those_that_the_schema_describes() -> None:
    assert channel_fields() == CHANNEL_FIELDS


def test_secrets_come_from_the_environment_and_from_the_env_file(folder: Path) -> None:
    env_file = folder / "environment"
    env_file.write_text("HOOK=https://pager.example/alerts\nSLACK_WEBHOOK_URL=https://hooks.slack.com/other\n")
    settings = Settings.from_environment({"SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/x"}, env_file)
    assert settings.environment == {
        "HOOK": "https://pager.example/alerts",
        "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/x",
    }
    assert [channel.name for channel in load_checked(folder, settings).channels] == ["a", "b"]


def test_values_that_a_channel_cannot_use_are_refused_at_their_place(folder: Path) -> None:
    settings = Settings(environment={"SLACK_WEBHOOK_URL": "https://relay.example/x", "HOOK": "pager"})
    with pytest.raises(RuleErrors) as raised:
        load_checked(folder, settings)
    assert str(raised.value).replace(f"{folder}/", "").splitlines() == [
        "channels.yml:3:20: webhook_url must begin with https://hooks.slack.com/",
        "channels.yml:4:22: url must be an http:// or https:// address",
    ]
    relayed = Settings(
        slack_webhook_prefix="https://relay.example/",
        environment={"SLACK_WEBHOOK_URL": "https://relay.example/x", "HOOK": "http://pager"},
    )
    assert len(load_checked(folder, relayed).channels) == 2


def test_secrets_may_be_missing_when_nothing_is_sent(folder: Path) -> None:
    with pytest.raises(RuleErrors, match="the environment variable HOOK is not set"):
        load_checked(folder, Settings())
    assert len(load_unsent(folder).channels) == 2


def test_settings_are_shown_without_their_values() -> None:
    settings = Settings(api_key="hidden", environment={"TOKEN": "hidden"})
    assert (repr(settings), f"{settings}") == ("<Settings>", "<Settings>")


def test_variable_named_like_the_field_of_all_variables_is_one_of_them(tmp_path: Path) -> None:
    settings = Settings.from_environment({"ENVIRONMENT": "production", "EMPTY": ""}, tmp_path / "none")
    assert settings.environment == {"ENVIRONMENT": "production"}
