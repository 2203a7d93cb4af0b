"""The YAML of the documents: rules through the rule loader, tests of rules through the runner, the rest by its kind."""

import shutil
import textwrap
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from app.alerting.language.files import load_unsent
from app.alerting.trials.rule_test_files import read_rule_tests
from app.alerting.trials.rule_tests import run_rule_tests
from app.mqtt.plan.files import parse_plan
from tests.conftest import project_folder
from tests.docs.documents import Block, blocks, blocks_to_run

#: A rule that the pieces of rules in rules/README.md fit into.
RULE = """version: 1
rules:
  - name: freezer-too-warm
    sensors: {metric: temperature}
    levels: {warning: {above: -18.0, for: 10m}, critical: {above: -12.0, for: 2m}}
"""


def load(block: Block) -> Any:
    """Read a block as YAML."""
    return YAML(typ="safe").load(block.text)


def is_tests(block: Block) -> bool:
    """Return whether a block is a file of rule tests."""
    return "tests" in load(block)


def is_topics(block: Block) -> bool:
    """Return whether a block is a file of `tidegauge mqtt`."""
    return "topics" in load(block)


@pytest.mark.parametrize(
    "block",
    [block for block in blocks_to_run("yaml") if not is_tests(block) and not is_topics(block)],
    ids=lambda block: block.place,
)
def test_rules_and_channels_are_accepted(block: Block, tmp_path: Path) -> None:
    text = block.text
    if "channels" in load(block) and "version" not in load(block):
        text = f"version: 1\n{text}"
    elif "version" not in load(block):
        text = RULE + textwrap.indent(text, "    ")
    file = tmp_path / "rules.yml"
    file.write_text(text)
    assert load_unsent(file)


@pytest.mark.parametrize(
    "block", [block for block in blocks_to_run("yaml") if is_tests(block)], ids=lambda block: block.place
)
def test_rule_tests_pass(block: Block, tmp_path: Path) -> None:
    shutil.copytree(project_folder() / "rules", tmp_path / "rules")
    file = tmp_path / "rules/tests/documented.yml"
    file.write_text(block.text)
    results = list(run_rule_tests(read_rule_tests(file)))
    assert results
    assert all(result.passed for result in results), results


@pytest.mark.parametrize("block", [block for block in blocks_to_run("yaml") if is_topics(block)])
def test_topics_are_accepted(block: Block) -> None:
    assert parse_plan(block.text, block.place).routes


def test_data_source_is_the_one_that_comes_along_but_for_the_place() -> None:
    (block,) = [block for block in blocks("docs/grafana.md") if block.language == "yaml"]
    own = YAML(typ="safe").load((project_folder() / "grafana/provisioning/datasources/tidegauge.yml").read_text())
    documented, provisioned = load(block)["datasources"][0], own["datasources"][0]
    for name in ("name", "uid", "type", "user"):
        assert documented[name] == provisioned[name]
    assert documented["jsonData"].keys() <= provisioned["jsonData"].keys()
    for name in ("postgresVersion", "timescaledb", "timeInterval", "maxOpenConns"):
        assert documented["jsonData"][name] == provisioned["jsonData"][name]
