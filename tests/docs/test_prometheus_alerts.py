"""The alerting rules for Prometheus: they name what /metrics has, and by promtool they fire when they should."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from app.health.work import WarningKind
from app.metrics import Metrics
from tests.docs.documents import ROOT

RULES = ROOT / "examples" / "prometheus-alerts.yml"
TESTS = Path(__file__).with_name("prometheus_alert_tests.yml")
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing; Debian's package prometheus has it")


def alerts() -> list[dict[str, Any]]:
    (group,) = YAML(typ="safe").load(RULES)["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def test_alerts_name_metrics_that_a_process_shows() -> None:
    shown = {role: set(re.findall(r"^# TYPE (\w+)", render(role), re.MULTILINE)) for role in ("api", "worker")}
    for rule in alerts():
        for name in re.findall(r"tidegauge_\w+", rule["expr"]):
            family = re.sub(r"_(sum|count|bucket)$", "", name)
            assert family in shown["api"] | shown["worker"], rule["alert"]


def render(role: str) -> str:
    return Metrics("api" if role == "api" else "worker").render().decode()


def test_alerts_name_kinds_of_warnings_that_exist_and_leave_only_those_out_that_others_cover() -> None:
    named: set[str] = set()
    for rule in alerts():
        for kinds in re.findall(r'kind=~?"([\w|]+)"', rule["expr"]):
            named |= set(kinds.split("|"))
    others = {"worker_missing", "evaluation_stopped", "evaluation_behind", "messages_waiting", "clock_skew"}
    assert named | others == set(get_args(WarningKind))
    assert not named & others


def test_alerts_have_a_summary_and_a_name_of_their_own() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(set(names)) == len(names)
    assert all(rule["annotations"]["summary"] for rule in alerts())


@needs_promtool
def test_alerts_are_valid_for_prometheus() -> None:
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"SUCCESS: {len(alerts())} rules found" in checked.stdout


@needs_promtool
def test_alerts_fire_when_they_should_and_not_when_all_is_well(tmp_path: Path) -> None:
    for file in (RULES, TESTS):
        shutil.copy(file, tmp_path)
    tested = promtool("test", "rules", str(tmp_path / TESTS.name))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_promtool
def test_metrics_have_names_that_prometheus_likes() -> None:
    for role in ("api", "worker"):
        checked = promtool("check", "metrics", given=render(role))
        assert checked.stdout + checked.stderr == ""


def promtool(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], input=given, capture_output=True, text=True, timeout=60, check=False)
