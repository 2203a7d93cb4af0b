"""Rule files as this program runs them: with the channels that there are, and the secrets of its environment."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from app.alerting.language.channels import ChannelCheck, fields_of_channels
from app.alerting.language.files import load_rules
from app.alerting.rules.model import ChannelFields, FieldValue, RuleSet
from app.notify.channels import ChannelConfigError, find_channels, parse_config
from app.notify.transport import Endpoints
from app.settings import Settings


def load_checked(path: Path, settings: Settings) -> RuleSet:
    """Read a folder of rules, or one file, ready to run; raises RuleErrors with every problem of every file."""
    endpoints = Endpoints(settings.slack_webhook_prefix, settings.telegram_api_base)
    return load_rules(path, settings.environment, channel_fields(), _channel_check(endpoints))


def load_unsent(path: Path) -> RuleSet:
    """Read rules that send nothing, so that none of their channels' secrets has to be there; raises RuleErrors."""
    return load_rules(path, _AnySecret(), channel_fields())


def channel_fields() -> dict[str, ChannelFields]:
    """Give the types of channels that there are, with their fields."""
    return fields_of_channels({name: channel.Config for name, channel in find_channels().items()})


def _channel_check(endpoints: Endpoints) -> ChannelCheck:
    def check(type_name: str, values: Mapping[str, FieldValue]) -> list[tuple[str | None, str]]:
        try:
            parse_config(type_name, values, endpoints)
        except ChannelConfigError as error:
            return [(problem.field, problem.message) for problem in error.problems]
        return []

    return check


class _AnySecret(Mapping[str, str]):
    """An environment in which every variable is set."""

    def __getitem__(self, name: str) -> str:
        return name

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0
