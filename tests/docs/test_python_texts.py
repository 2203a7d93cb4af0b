"""The Python of the documents: the module of a condition, used as the rule language uses it."""

import inspect
from pathlib import Path

from app.alerting import conditions
from app.alerting.conditions import holds, implies
from app.notify import channels
from tests.docs.documents import blocks_to_run, rows


def test_condition_of_contributing_is_one_when_it_is_put_there(tmp_path: Path) -> None:
    (block,) = blocks_to_run("python")
    assert block.document == "CONTRIBUTING.md"
    module: dict[str, type] = {}
    exec(compile(block.text, block.place, "exec"), module)  # noqa: S102 -- our own document
    condition = module["AtLeast"](8.0)
    assert holds(condition, 8.0)
    assert not holds(condition, 7.999)
    assert implies(conditions.CONDITIONS["above"](8.0), condition)
    assert list(inspect.signature(module["AtLeast"]).parameters) == ["threshold"]


def test_contributing_names_all_that_a_channel_defines() -> None:
    documented = [cells[0].strip("`").partition("(")[0] for cells in rows("CONTRIBUTING.md", "| name | |")]
    protocol = set(channels.Channel.__annotations__) | {
        name for name, _ in inspect.getmembers(channels.Channel, inspect.isfunction) if not name.startswith("_")
    }
    assert set(documented) == protocol
