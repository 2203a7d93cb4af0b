"""The container files: no default secrets, pinned versions, no process as root."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from app.settings import Settings

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = YAML(typ="safe").load(COMPOSE)["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
#: The field `channel_variables` has no variable of its own.
SETTINGS = [name for name in Settings.__struct_fields__ if name != "channel_variables"]
SECRETS = {
    *("API_KEY", "API_KEY_WS", "POSTGRES_PASSWORD", "APP_DB_PASSWORD", "GRAFANA_DB_PASSWORD"),
    "GF_SECURITY_ADMIN_PASSWORD",
}


def test_compose_refuses_to_start_when_a_secret_is_missing() -> None:
    required = dict(re.findall(r"\$\{(\w+):\?([^}]+)\}", COMPOSE))
    assert required == {name: f"set {name} in .env" for name in SECRETS}


def test_compose_has_no_default_when_a_variable_is_a_secret() -> None:
    defaults = dict(re.findall(r"\$\{(\w+):-([^}$]*)\}", COMPOSE))
    assert not SECRETS & defaults.keys()
    assert not [name for name in defaults if re.search("PASSWORD|TOKEN|WEBHOOK", name)]


@pytest.mark.parametrize("name", ["db", "grafana", "replica"])
def test_foreign_image_is_pinned_to_a_version_when_pulled(name: str) -> None:
    assert re.fullmatch(r"[\w/-]+:\d+\.\d+\.\d+[\w.-]*", SERVICES[name]["image"])


@pytest.mark.parametrize("name", ["migrate", "api", "worker", "mqtt"])
def test_own_container_is_confined_when_run(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True


@pytest.mark.parametrize("name", SERVICES)
def test_container_is_limited_when_run(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"(\$\{[A-Z]+_MEMORY:-)?\dg\}?", service["mem_limit"])
    assert 100 <= service["pids_limit"] <= 500
    assert service["logging"]["options"] == {"max-size": "20m", "max-file": "5"}


def test_api_logs_in_as_a_role_for_rows_when_nothing_else_is_configured() -> None:
    environments = {name: service.get("environment", {}) for name, service in SERVICES.items()}
    assert environments["api"]["DATABASE_URL"].startswith(
        "${DATABASE_URL:-postgresql://tidegauge_app:${APP_DB_PASSWORD}@"
    )
    assert environments["migrate"]["APP_PASSWORD"].startswith("${APP_DB_PASSWORD:?")
    assert "APP_DB_PASSWORD" not in str(environments["worker"])


def test_every_lasting_service_has_a_health_check_when_started() -> None:
    assert "\nHEALTHCHECK " in DOCKERFILE
    assert "healthcheck" not in SERVICES["api"], "the health check of the image applies"
    for name in ("db", "grafana", "replica"):
        assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert SERVICES[name]["restart"] == "unless-stopped"


def test_services_wait_for_each_other_when_started() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    migrated = {"migrate": {"condition": "service_completed_successfully"}}
    assert SERVICES["api"]["depends_on"] == migrated
    assert SERVICES["grafana"]["depends_on"] == migrated
    assert SERVICES["migrate"]["command"] == ["migrate"]


def test_nothing_is_reachable_from_the_network_when_nothing_is_configured() -> None:
    assert {name: service["ports"] for name, service in SERVICES.items() if "ports" in service} == {
        "api": ["${API_BIND:-127.0.0.1}:${API_PORT:-8000}:8000"],
        "db": ["${DB_BIND:-127.0.0.1}:${DB_PORT:-5432}:5432"],
        "grafana": ["${GRAFANA_BIND:-127.0.0.1}:${GRAFANA_PORT:-3000}:3000"],
    }


def test_service_is_left_out_when_its_profile_is_not_chosen() -> None:
    chosen = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert chosen == {"mqtt": ["mqtt"], "replica-setup": ["replica"], "replica": ["replica"]}
    for name in ("replica-setup", "replica"):
        assert SERVICES[name]["image"] == SERVICES["db"]["image"]
        assert SERVICES[name]["user"] == "postgres"
    # A service outside the profile that needed one of them would start it always.
    for name in SERVICES.keys() - chosen.keys():
        assert not chosen.keys() & SERVICES[name].get("depends_on", {}).keys()


def test_grafana_has_every_variable_that_its_provisioning_uses() -> None:
    named = set()
    for path in (ROOT / "grafana" / "provisioning").rglob("*.yml"):
        named |= set(re.findall(r"\$(\w+)", path.read_text(encoding="utf-8")))
    assert named <= SERVICES["grafana"]["environment"].keys()


def test_images_are_pinned_and_stages_separate_when_built() -> None:
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["python:3.13-slim-trixie"] * 2
    assert "pip install" not in _last_stage()
    assert "COPY --from=build" in _last_stage()


def test_every_package_is_checked_by_hash_when_the_image_is_built() -> None:
    for install in re.findall(r"pip install ([^&\n]+)", DOCKERFILE):
        assert install.startswith(("--require-hashes", "--no-deps --no-index")), install


def test_container_runs_the_command_as_an_ordinary_user_when_started() -> None:
    lines = _last_stage().splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
    assert 'ENTRYPOINT ["tidegauge"]' in lines
    assert 'CMD ["serve"]' in lines
    assert "/health/live" in _last_stage()


def test_build_context_has_no_secret_when_env_file_exists() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert not [rule for rule in rules if rule.startswith("!.env")]


def test_example_lists_every_setting_with_its_default() -> None:
    listed = _example()
    for name in SETTINGS:
        default = getattr(Settings(), name)
        assert listed[name.upper()] == ("" if default is None else str(default)), name


def test_example_lists_every_variable_that_compose_reads_with_its_default() -> None:
    listed = _example()
    read = set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE)) | {
        name for service in SERVICES.values() for name, value in service["environment"].items() if value is None
    }
    assert read <= listed.keys()
    for name, default in re.findall(r"\$\{(\w+):-([^}$]+)\}", COMPOSE):
        assert listed[name] == default, name


def test_example_has_no_unused_variable() -> None:
    settings = {name.upper() for name in SETTINGS}
    assert _example().keys() <= settings | set(re.findall(r"\$\{(\w+)", COMPOSE))


def test_example_has_no_secret_and_a_comment_for_each_variable() -> None:
    assert {name for name, value in re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE) if not value} == SECRETS
    lines = EXAMPLE.splitlines()
    for above, line in pairwise(lines):
        if re.match(r"(# )?[A-Z_]+=", line):
            assert re.match(r"# [A-Za-z0-9]", above), line
            assert not re.match(r"# [A-Z_]+=", above), line


def _last_stage() -> str:
    return DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]


def _example() -> dict[str, str]:
    """Return the variables of .env.example with their values, including those that are commented out."""
    return dict(re.findall(r"^(?:# )?([A-Z][A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
