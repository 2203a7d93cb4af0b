"""Settings: their sources, and the messages for wrong values."""

import os
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
    assert settings.host == "0.0.0.0"
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


def test_channels_see_their_own_variables_alone() -> None:
    own = {"SLACK_WEBHOOK_URL": "a", "TELEGRAM_BOT_TOKEN": "b", "TELEGRAM_CHAT_ID": "c", "CHANNEL_X": "d"}
    others = {"API_KEY": "e", "DATABASE_URL": DSN, "MY_CHANNEL_X": "f", "CHANNELS_DIR": "g", "CHANNEL_EMPTY": ""}
    assert read({**own, **others}).channel_variables == own


@pytest.mark.parametrize("folder", ["rules", "./rules/", "tests/../rules"])
def test_folder_of_channels_is_refused_when_it_is_that_of_rules(folder: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        read({"CHANNELS_DIR": folder})
    assert str(refusal.value) == (
        f"CHANNELS_DIR is {str(Path(folder))!r}, which is RULES_DIR; "
        "it must be another folder, which people who edit rules cannot write to"
    )


# Secrets in files


@pytest.mark.parametrize("name", ["DATABASE_URL", "READ_DATABASE_URL", "API_KEY", "API_KEY_WS", "READER_PASSWORD"])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_secret_is_read_from_its_file_without_the_end_of_the_line(name: str, end: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(f"{DSN} {end}".encode())
    assert getattr(read({f"{name}_FILE": f"{tmp_path}/secret", name: ""}), name.lower()) == f"{DSN} "


@pytest.mark.parametrize("name", ["SLACK_WEBHOOK_URL", "TELEGRAM_BOT_TOKEN", "TELEGRAM_CHAT_ID", "CHANNEL_PAGER"])
def test_secret_of_a_channel_is_read_from_its_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    env_file = tmp_path / ".env"
    env_file.write_text(f"{name}_FILE={tmp_path}/secret\n")
    assert read({}, env_file).channel_variables == {name: "s3cret"}


def test_file_of_what_is_no_secret_is_not_read() -> None:
    assert read({"PORT_FILE": "/no/such/file", "API_KEY_FILE": "", "_FILE": "/no/such/file"}).port == 8000


@pytest.mark.parametrize("name", ["API_KEY", "CHANNEL_PAGER"])
def test_secret_is_refused_when_it_is_set_beside_its_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    env_file = tmp_path / ".env"
    env_file.write_text(f"{name}=other\n")
    with pytest.raises(SettingsError) as refusal:
        read({f"{name}_FILE": f"{tmp_path}/secret"}, env_file)
    assert str(refusal.value) == f"{name} and {name}_FILE are both set; remove one of them"


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_secret_is_refused_with_variable_and_path_when_there_is_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(SettingsError) as refusal:
        read({"API_KEY_FILE": str(path)})
    assert str(refusal.value) == (
        f"API_KEY_FILE is {str(path)!r}, where there is no file; it must be the path of a file"
    )


@pytest.mark.parametrize("content", [b"", b"\n", b"s3cret\nother\n", b"s3cret\0", b"x" * 65_537])
def test_secret_is_refused_without_being_shown_when_its_file_is_not_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as refusal:
        read({"API_KEY_FILE": str(path)})
    assert str(refusal.value) == (
        f"API_KEY_FILE is {str(path)!r}; this file must hold one line, and nothing but the secret"
    )


def test_secret_is_refused_without_being_shown_when_its_file_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"s3cret\xff")
    with pytest.raises(SettingsError) as refusal:
        read({"API_KEY_FILE": str(path)})
    assert str(refusal.value) == f"API_KEY_FILE is {str(path)!r}, and this file cannot be read: it is not UTF-8"


def test_wrong_secret_of_a_file_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("mysql://user:s3cret@127.0.0.1/name")
    with pytest.raises(SettingsError) as refusal:
        read({"DATABASE_URL_FILE": str(path)})
    assert str(refusal.value) == "DATABASE_URL must look like postgresql://user:password@host:5432/name"


def test_settings_show_no_value_when_they_are_printed() -> None:
    settings = read({"DATABASE_URL": DSN, "API_KEY": "s3cret"})
    assert repr(settings) == "<Settings>"
    assert "s3cret" not in pretty_repr(settings)
