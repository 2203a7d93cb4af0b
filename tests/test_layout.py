"""The layout of the program: folders, names and docstrings in which a stranger finds the way."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import project_folder

ROOT = project_folder()
APP = ROOT / "app"
#: What every folder of a kind has is not counted.
NOT_COUNTED = {"__init__.py", "__pycache__", "queries.sql", "sql.py"}
FOLDERS = sorted(
    {path.parent.relative_to(APP).as_posix() for path in APP.rglob("*.*") if "__pycache__" not in path.parts}
)
#: Each channel has a class of this name: that is how it is found.
NAMES_OF_MANY = {"Config"}


def things(folder: str) -> list[str]:
    """Return what stands at the top of a folder."""
    return sorted(path.name for path in (APP / folder).iterdir() if path.name not in NOT_COUNTED)


def introduction(folder: Path) -> str:
    """Return the docstring of the folder's package, or of the nearest one above it."""
    while not (folder / "__init__.py").exists():
        folder = folder.parent
    return ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_says_in_which_order_to_read_it_when_it_has_more_than_a_dozen_things(folder: str) -> None:
    if len(things(folder)) <= 12:
        return
    text = introduction(APP / folder)
    assert [name for name in things(folder) if f"`{name.removesuffix('.py')}`" not in text] == []


def test_each_class_has_a_name_of_its_own() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(APP.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in NAMES_OF_MANY} == {}


def test_docstrings_say_what_a_thing_is_or_does() -> None:
    found = []
    for path in sorted([*APP.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = ast.get_docstring(tree) or ""
        if re.match(r"(What|Which|How|Who|When|Where|Why|Whether)\b", module):
            found.append(f"{path.relative_to(ROOT)}: {module.splitlines()[0]}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                text = ast.get_docstring(node) or ""
                if re.match(r"(Gives?|Tells?|Says?|Of which)\b", text):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}: {text.splitlines()[0]}")
    assert found == []
