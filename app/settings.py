"""Settings from the environment, read once at the start; no other module reads settings from os.environ."""

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Final, Literal, Self, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from dotenv import dotenv_values

from app.dsn import split_hosts
from app.errors import SettingsError

LogLevel = Literal["debug", "info", "warning", "error"]
Network = IPv4Network | IPv6Network
LogFormat = Literal["auto", "console", "json"]
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")

#: The variables that the example channels refer to. Every other variable that a channel may refer to begins with
#: CHANNEL_PREFIX, so that the author of a channel cannot send the secrets of the server somewhere.
CHANNEL_VARIABLES: Final = ("SLACK_WEBHOOK_URL", "TELEGRAM_BOT_TOKEN", "TELEGRAM_CHAT_ID")
CHANNEL_PREFIX: Final = "CHANNEL_"
#: Each of these, and each variable for channels, may be in a file instead, whose path is in the variable NAME_FILE.
SECRETS: Final = (
    *("DATABASE_URL", "READ_DATABASE_URL", "API_KEY", "API_KEY_WS", "READER_PASSWORD", "APP_PASSWORD"),
    *("MQTT_API_KEY", "MQTT_USERNAME", "MQTT_PASSWORD"),
)
_FILE: Final = "_FILE"
#: The largest file of a secret, in bytes.
_LARGEST_SECRET: Final = 65_536


def is_channel_variable(name: str) -> bool:
    """Return whether a channel may refer to the environment variable of this name."""
    return name in CHANNEL_VARIABLES or name.startswith(CHANNEL_PREFIX)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings; each field except the last is read from the environment variable of its name.

    The representation of this object leaves out the values, because some are secrets and tracebacks can show locals.
    """

    database_url: str | None = None
    #: A replica for reads; when absent, reads go to `database_url`.
    read_database_url: str | None = None
    api_key: str | None = None
    api_key_ws: str | None = None
    #: 0 means unlimited.
    max_ws_connections_per_key: int = 0
    host: str = "127.0.0.1"
    port: int = 8000
    #: Path prefix under which a proxy offers the server, such as "/tidegauge"; empty for none.
    root_path: str = ""
    #: Proxies whose X-Forwarded-For is trusted: addresses and networks, separated by commas.
    trusted_proxies: str = ""
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    rules_dir: Path = Path("rules")
    #: When set, channels are read from this folder alone, and rule files must hold none.
    channels_dir: Path | None = None
    data_dir: Path = Path(".data")
    legacy_timezone: str = "America/Sao_Paulo"
    #: Time zone of times in messages; when absent, that of /etc/localtime.
    tz: str | None = None
    slack_webhook_url: str | None = None
    telegram_bot_token: str | None = None
    telegram_chat_id: str | None = None
    slack_webhook_prefix: str = "https://hooks.slack.com/"
    telegram_api_base: str = "https://api.telegram.org"
    #: Addresses of the built-in page and of Grafana, to which alert messages link.
    public_url: str | None = None
    grafana_url: str | None = None
    #: Password that `tidegauge migrate` sets for the read-only role; when absent, that role cannot log in.
    reader_password: str | None = None
    #: Password that `tidegauge migrate` sets for the role of the API; when absent, that role cannot log in.
    app_password: str | None = None
    #: Of `tidegauge mqtt`: its key to the API, where it is not API_KEY, and its login at the broker.
    mqtt_api_key: str | None = None
    mqtt_username: str | None = None
    mqtt_password: str | None = None
    #: The variables that channels may refer to as `${NAME}`, where set and not empty, including those of `.env`.
    channel_variables: dict[str, str] = {}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, env_file: Path | None = None) -> Self:
        """Read the environment, and `.env` for variables that the environment lacks; raise SettingsError."""
        if environ is None:
            environ = os.environ
        from_file = dotenv_values(env_file or Path(".env"))
        merged = _read_secret_files({name: value for name, value in {**from_file, **environ}.items() if value})
        given = {field: merged[field.upper()] for field in cls.__struct_fields__[:-1] if merged.get(field.upper())}
        try:
            settings = msgspec.convert(
                {**given, "channel_variables": {name: merged[name] for name in merged if is_channel_variable(name)}},
                cls,
                strict=False,
                dec_hook=lambda kind, value: kind(value),
            )
        except msgspec.ValidationError as error:
            raise SettingsError(_explain(str(error), given)) from None
        settings.check()
        return settings

    def __repr__(self) -> str:
        return "<Settings>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def parse_proxies(self) -> tuple[Network, ...]:
        """Return the trusted proxies as networks; raise ValueError, which names the text that is not a network."""
        return tuple(ip_network(part.strip()) for part in self.trusted_proxies.split(",") if part.strip())

    def check(self) -> None:
        """Raise SettingsError for values that have the right type but cannot work."""
        if not 0 <= self.port <= 65_535:
            raise SettingsError(f"PORT is {self.port}; it must be a port number from 0 to 65535")
        if self.max_ws_connections_per_key < 0:
            raise SettingsError(
                f"MAX_WS_CONNECTIONS_PER_KEY is {self.max_ws_connections_per_key}; "
                "it must be a whole number, 0 for unlimited"
            )
        if self.root_path and not _ROOT_PATH.fullmatch(self.root_path):
            raise SettingsError(
                f"ROOT_PATH is {self.root_path!r}; it must begin with a slash and not end with one: /tidegauge"
            )
        if self.channels_dir is not None and self.channels_dir.resolve() == self.rules_dir.resolve():
            raise SettingsError(
                f"CHANNELS_DIR is {str(self.channels_dir)!r}, which is RULES_DIR; "
                "it must be another folder, which people who edit rules cannot write to"
            )
        for name in ("public_url", "grafana_url"):
            _check_address(name.upper(), getattr(self, name))
        for name in ("database_url", "read_database_url"):
            _check_dsn(name.upper(), getattr(self, name))
        try:
            self.parse_proxies()
        except ValueError as error:
            raise SettingsError(
                f"TRUSTED_PROXIES is {self.trusted_proxies!r}; it must be addresses or networks separated by commas, "
                f"such as 10.0.0.5,192.168.0.0/24: {error}"
            ) from None
        try:
            ZoneInfo(self.legacy_timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise SettingsError(
                f"LEGACY_TIMEZONE is {self.legacy_timezone!r}; it must be an IANA name such as America/Sao_Paulo"
            ) from None


def _read_secret_files(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with each NAME_FILE of a secret replaced by NAME, whose value is the text of that file.

    Raise SettingsError if NAME is set, too, or if the file cannot be used. The messages do not show the text.
    """
    read = dict(variables)
    for variable, path in variables.items():
        name = variable.removesuffix(_FILE)
        if name == variable or not (name in SECRETS or is_channel_variable(name)):
            continue
        if name in variables:
            raise SettingsError(f"{name} and {variable} are both set; remove one of them")
        del read[variable]
        read[name] = _read_secret(variable, Path(path))
    return read


def _read_secret(variable: str, path: Path) -> str:
    """Return the one line of a file, without its end; raise SettingsError."""
    try:
        # Only a regular file is opened: opening a pipe could wait for ever.
        if not path.is_file():
            raise SettingsError(f"{variable} is {str(path)!r}, where there is no file; it must be the path of a file")
        with path.open("rb") as file:
            content = file.read(_LARGEST_SECRET + 1)
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        raise SettingsError(f"{variable} is {str(path)!r}, and this file cannot be read: {reason}") from None
    if not text or len(content) > _LARGEST_SECRET or not text.isprintable():
        raise SettingsError(f"{variable} is {str(path)!r}; this file must hold one line, and nothing but the secret")
    return text


def _check_dsn(name: str, dsn: str | None) -> None:
    """Raise SettingsError for an address that is no PostgreSQL URL, without quoting it: it may contain a password."""
    if dsn is None:
        return
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise SettingsError(f"{name} must look like postgresql://user:password@host:5432/name")
    try:
        split_hosts(dsn)
    except ValueError:
        raise SettingsError(
            f"{name} cannot be read as an address. In a password write / as %2F, ? as %3F, # as %23, "
            "@ as %40 and : as %3A. Several hosts are separated by commas: postgresql://user:password@first:5432,second:5432/name"
        ) from None


def _check_address(name: str, address: str | None) -> None:
    if address is not None and not address.startswith(("http://", "https://")):
        raise SettingsError(f"{name} is {address!r}; it must be an address such as https://tidegauge.example")


def _explain(error: str, given: Mapping[str, str]) -> str:
    """Turn msgspec's message into one that names the variable, its value and the accepted values."""
    field = error.rpartition("`$.")[2].rstrip("`")
    accepted = {
        "log_level": " or ".join(get_args(LogLevel)),
        "log_format": " or ".join(get_args(LogFormat)),
        "port": "a port number from 0 to 65535",
        "max_ws_connections_per_key": "a whole number, 0 for unlimited",
    }
    if field not in accepted:
        return error
    return f"{field.upper()} is {given[field]!r}; it must be {accepted[field]}"
