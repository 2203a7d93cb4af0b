"""Settings from the environment, read once at the start; no other module reads settings from os.environ."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from dotenv import dotenv_values

from app.dsn import split_hosts
from app.errors import SettingsError

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")


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
    log_level: LogLevel = "info"
    log_format: LogFormat = "auto"
    rules_dir: Path = Path("rules")
    data_dir: Path = Path(".data")
    legacy_timezone: str = "America/Sao_Paulo"
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
    #: All variables that are set and not empty, including those of `.env`; channels refer to them as `${NAME}`.
    environment: dict[str, str] = {}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, env_file: Path | None = None) -> Self:
        """Read the environment, and `.env` for variables that the environment lacks; raise SettingsError."""
        if environ is None:
            environ = os.environ
        from_file = dotenv_values(env_file or Path(".env"))
        merged = {name: value for name, value in {**from_file, **environ}.items() if value}
        given = {field: merged[field.upper()] for field in cls.__struct_fields__[:-1] if merged.get(field.upper())}
        try:
            settings = msgspec.convert(
                {**given, "environment": merged}, cls, strict=False, dec_hook=lambda kind, value: kind(value)
            )
        except msgspec.ValidationError as error:
            raise SettingsError(_explain(str(error), given)) from None
        settings.check()
        return settings

    def __repr__(self) -> str:
        return "<Settings>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

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
        for name in ("public_url", "grafana_url"):
            _check_address(name.upper(), getattr(self, name))
        for name in ("database_url", "read_database_url"):
            _check_dsn(name.upper(), getattr(self, name))
        try:
            ZoneInfo(self.legacy_timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise SettingsError(
                f"LEGACY_TIMEZONE is {self.legacy_timezone!r}; it must be an IANA name such as America/Sao_Paulo"
            ) from None


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
    """Turn msgspec's message into one that names the variable, its value and what is accepted."""
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
