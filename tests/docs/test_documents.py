"""Documents name what exists, and all that exists of some kinds is in its document."""

import ast
import re
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import pytest
import rich_click as click

from app.alerting.evaluation.writing.alert_feed import Transition
from app.auth.keys import SCOPES
from app.commands.cli import main
from app.ingest.uploads.receipt import RejectionCode
from app.live.protocol import CloseCode
from app.metrics import Metrics
from tests.docs.documents import DOCUMENTS, ROOT, Block, anchors, blocks, not_run, prose, read, rows

#: How the tests treat a block by its language; `` is a picture or what a program prints.
LANGUAGES = {"sh", "sql", "yaml", "json", "python", "nginx", "caddyfile", "toml", ""}
#: Files that readers make themselves.
TO_BE_MADE = {"rules/channels.yml", "app/alerting/conditions/at_least.py"}
TIDEGAUGE = re.compile(r"\btidegauge ((?:[a-z]+ ?)+)")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        address = urlsplit(target)
        if address.scheme:
            assert address.scheme == "https", target
            continue
        path = (ROOT / document).parent / address.path if address.path else ROOT / document
        assert path.exists(), target
        if address.fragment:
            assert address.fragment in anchors(path.resolve().relative_to(ROOT).as_posix()), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_is_named_exists(document: str) -> None:
    for name in named_paths(document):
        path, _, function = name.partition(":")
        assert (ROOT / path).exists() or path in TO_BE_MADE, name
        if function:
            assert is_defined(ROOT / path, function.split(".")), name


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_that_is_named_exists(document: str) -> None:
    makefile = read("Makefile")
    text = "\n".join([*re.findall(r"`([^`]+)`", prose(document)), *(block.text for block in blocks(document))])
    for target in re.findall(r"\bmake ([a-z]+)(?: test)?\b(?! it)", text):
        assert re.search(rf"^{target}: ", makefile, re.MULTILINE), f"make {target}"
    for words in TIDEGAUGE.findall(text):
        command: click.Command = main
        for word in words.split():
            if isinstance(command, click.Group):
                found = command.get_command(click.Context(command), word)
                assert found is not None, f"tidegauge {words}"
                command = found


def test_life_of_a_reading_names_a_function_for_each_hop() -> None:
    section = read("CONTRIBUTING.md").partition("## The life of a reading")[2].partition("\n## ")[0]
    assert len(re.findall(r"`app/[\w/]+\.py:[\w.]+`", section)) >= 12
    assert re.findall(r"^(\d)\.", section, re.MULTILINE) == list("12345678")


def test_map_has_every_folder_of_the_program() -> None:
    section = read("CONTRIBUTING.md").partition("## Map")[2].partition("\n## ")[0]
    for package in sorted((ROOT / "app").glob("*/**/__init__.py")):
        domain, *rooms = package.parent.relative_to(ROOT / "app").parts
        (row,) = re.findall(rf"^\| `app/{domain}/` .*$", section, re.MULTILINE)
        assert not rooms or f"`{rooms[-1]}/`" in row, package


def test_every_block_is_of_a_language_that_the_tests_know() -> None:
    for document in DOCUMENTS:
        for block in blocks(document):
            assert block.language in LANGUAGES, block.place


def test_every_block_that_is_listed_as_not_run_is_there_once() -> None:
    assert not_run()
    for document, beginning, _ in not_run():
        listed = [block for block in blocks(document) if block.begins_as(document, beginning)]
        assert len(listed) == 1, (document, beginning)
        assert listed[0].language


def test_operators_have_every_metric() -> None:
    documented = [cells[0] for cells in rows("docs/operators.md", "| metric | |")]
    families = Metrics().registry.collect()
    names = [f"{family.name}_total" if family.type == "counter" else family.name for family in families]
    assert documented == [f"`{name}`" for name in names]


def test_operators_have_every_setting_with_its_default() -> None:
    documented: dict[str, str] = {}
    for names, default, _ in rows("docs/operators.md", "| variable | default | |"):
        documented |= pairs(names, re.findall(r"`([^`]+)`", default) or [""])
    assert documented == dict(re.findall(r"^(?:# )?([A-Z][A-Z_]+)=(.*)$", read(".env.example"), re.MULTILINE))


def test_operators_have_every_log_event_at_its_level() -> None:
    documented: dict[str, str] = {}
    for events, levels, _ in rows("docs/operators.md", "| event | level | meaning |"):
        documented |= pairs(events, levels.split(", "))
    assert documented == log_events()


def test_operators_have_every_scope() -> None:
    assert {cells[0] for cells in rows("docs/operators.md", "| scope | |")} == {f"`{scope}`" for scope in SCOPES}


def test_gateways_have_every_rejection_code() -> None:
    documented = [cells[0] for cells in rows("docs/gateways.md", "| `code` | meaning | remedy |")]
    assert documented == [f"`{code}`" for code in get_args(RejectionCode)]


def test_live_feed_has_every_close_code_and_which_are_final() -> None:
    documented = {
        int(code): verdict for code, _, verdict in rows("docs/live-feed.md", "| code | meaning | come back? |")
    }
    assert set(CloseCode) <= documented.keys()
    final = {code for code, verdict in documented.items() if verdict.startswith("final")}
    assert all(verdict.startswith("try again") for code, verdict in documented.items() if code not in final)
    assert final == {1009, CloseCode.BAD_MESSAGE, CloseCode.UNAUTHORIZED, CloseCode.FORBIDDEN}
    for example in ("examples/live_feed.py", "examples/live_feed.html"):
        listed = re.search(r"FINAL_CODES = [\[{](.+)[\]}]", read(example))
        assert listed is not None
        assert {int(code) for code in listed[1].split(",")} == final, example


def test_fence_is_found_when_it_stands_in_a_list() -> None:
    (first, *_) = [block for block in blocks("docs/grafana.md") if block.language == "yaml"]
    assert isinstance(first, Block)
    assert first.text.startswith("apiVersion: 1\n")


def named_paths(document: str) -> list[str]:
    """Find what looks like a path of the checkout, in code and in prose."""
    code = re.findall(r"`([^`\n]+)`", prose(document))
    words = [word for text in code for word in text.split()]
    folders = r"(?:app|tests|docs|examples|rules|grafana|migrations|\.requirements)"
    return [word for word in words if re.fullmatch(rf"{folders}/[\w./-]*(?::[\w.]+)?", word)]


def is_defined(path: Path, names: list[str]) -> bool:
    """Return whether a Python file defines a function, class or constant, or a method of a class."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for name in names:
        if any(
            (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name)
            or (isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == name)
            for node in body
        ):
            body = []
            continue
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        found = next((node for node in body if isinstance(node, kinds) and node.name == name), None)
        if found is None:
            return False
        body = found.body
    return True


def log_events() -> dict[str, str]:
    """Find every event that the program logs, and its level."""
    events = {}
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = ast.unparse(node.func)
                if called in ("log.debug", "log.info", "log.warning", "log.error"):
                    events[str(node.args[0].value)] = called.removeprefix("log.")
                elif called == "self._log_event":  # of simulated gateways, which the simulation logs for them
                    events[str(node.args[0].value)] = "info"
    return events | {f"alert_{transition}": "info" for transition in get_args(Transition)}


def pairs(names: str, values: list[str]) -> dict[str, str]:
    """Pair the names in a cell with the values of another: one each, or one for all."""
    listed = re.findall(r"`([A-Za-z_]+)`", names)
    return dict(zip(listed, values * len(listed) if len(values) == 1 else values, strict=True))
