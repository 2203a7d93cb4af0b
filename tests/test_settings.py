"""Settings: their sources, and the messages for wrong values."""

from pathlib import Path

import pytest
from rich.pretty import pretty_repr

from app.errors import SettingsError
from app.settings import Settings

DSN = "postgresql://user:s3cret@127.0.0.1:5432/name"


def read(environ: dict[str, str], env_file: Path | None = None) -> Settings:
    return Settings.from_environment(environ, env_file or Path("there-is-no-such-file"))


def test_settings_have_their_defaults_when_nothing_is_set() -> None:
    settings = read({})
    assert (settings.host, settings.port, settings.log_level, settings.log_format) == (
        "127.0.0.1",
        8000,
        "info",
        "auto",
    )
    assert (settings.rules_dir, settings.data_dir) == (Path("rules"), Path(".data"))
    assert (settings.database_url, settings.api_key, settings.max_ws_connections_per_key) == (None, None, 0)


def test_environment_overrides_the_env_file_even_when_a_variable_is_empty(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("PORT=1\nHOST=0.0.0.0\nAPI_KEY=from-file\n")
    settings = read({"PORT": "2", "API_KEY": "", "RULES_DIR": "/etc/rules"}, env_file)
    assert (settings.port, settings.host, settings.rules_dir) == (2, "0.0.0.0", Path("/etc/rules"))
    assert settings.environment == {"PORT": "2", "HOST": "0.0.0.0", "RULES_DIR": "/etc/rules"}
    assert settings.api_key is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "eighty", "PORT is 'eighty'; it must be a port number from 0 to 65535"),
        ("PORT", "-1", "PORT is -1; it must be a port number from 0 to 65535"),
        ("PORT", "65536", "PORT is 65536; it must be a port number from 0 to 65535"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL is 'loud'; it must be debug or info or warning or error"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT is 'xml'; it must be auto or console or json"),
        (
            "MAX_WS_CONNECTIONS_PER_KEY",
            "many",
            "MAX_WS_CONNECTIONS_PER_KEY is 'many'; it must be a whole number, 0 for unlimited",
        ),
        (
            "MAX_WS_CONNECTIONS_PER_KEY",
            "-1",
            "MAX_WS_CONNECTIONS_PER_KEY is -1; it must be a whole number, 0 for unlimited",
        ),
        ("PUBLIC_URL", "tide", "PUBLIC_URL is 'tide'; it must be an address such as https://tidegauge.example"),
        ("GRAFANA_URL", "tide", "GRAFANA_URL is 'tide'; it must be an address such as https://tidegauge.example"),
        (
            "LEGACY_TIMEZONE",
            "Berlin",
            "LEGACY_TIMEZONE is 'Berlin'; it must be an IANA name such as America/Sao_Paulo",
        ),
        (
            "LEGACY_TIMEZONE",
            "../../etc/passwd",
            "LEGACY_TIMEZONE is '../../etc/passwd'; it must be an IANA name such as America/Sao_Paulo",
        ),
    ],
)
def test_wrong_value_is_refused_with_its_name_its_value_and_the_accepted_ones(
    name: str, value: str, message: str
) -> None:
    with pytest.raises(SettingsError) as refusal:
        read({name: value})
    assert str(refusal.value) == message


@pytest.mark.parametrize("port", ["0", "65535"])
def test_port_is_accepted_when_it_is_the_lowest_or_the_highest(port: str) -> None:
    assert read({"PORT": port}).port == int(port)


@pytest.mark.parametrize("name", ["DATABASE_URL", "READ_DATABASE_URL"])
def test_database_url_is_refused_without_being_quoted_when_it_is_not_postgresql(name: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read({name: "mysql://user:s3cret@127.0.0.1/name"})
    assert str(refusal.value) == f"{name} must look like postgresql://user:password@host:5432/name"


def test_settings_show_no_value_when_they_are_printed() -> None:
    settings = read({"DATABASE_URL": DSN, "API_KEY": "s3cret"})
    assert repr(settings) == "<Settings>"
    assert "s3cret" not in pretty_repr(settings)
