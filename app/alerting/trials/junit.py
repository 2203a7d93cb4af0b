"""Results of rule tests as JUnit XML, for continuous integration."""

import re
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import msgspec

from app.alerting.trials.rule_tests import RuleTestResult
from app.yaml_files.problems import FileProblem


class FileResult(msgspec.Struct, frozen=True):
    """The result of one file: the outcomes of its tests, or the problems because of which it cannot be used."""

    outcomes: tuple[RuleTestResult, ...] = ()
    problems: tuple[FileProblem, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.problems and all(outcome.passed for outcome in self.outcomes)


def write_junit(results: Mapping[str, FileResult]) -> bytes:
    """Return the results by file name as JUnit XML; a file that cannot be used becomes one test with an error."""
    suites = Element("testsuites", _counts(list(results.values())))
    for name, result in results.items():
        suite = SubElement(suites, "testsuite", {"name": _legal(name), **_counts([result])})
        for outcome in result.outcomes:
            case = _case(suite, name, outcome.name, outcome.seconds, outcome.place.line)
            if not outcome.passed:
                _detail(case, "failure", "other episodes than expected", outcome.difference)
        if result.problems:
            case = _case(suite, name, "can be used", 0.0, result.problems[0].line)
            _detail(case, "error", "the file cannot be used", [str(problem) for problem in result.problems])
    indent(suites)
    written: bytes = tostring(suites, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _counts(results: Sequence[FileResult]) -> dict[str, str]:
    outcomes = [outcome for result in results for outcome in result.outcomes]
    errors = sum(bool(result.problems) for result in results)
    return {
        "tests": str(len(outcomes) + errors),
        "failures": str(sum(not outcome.passed for outcome in outcomes)),
        "errors": str(errors),
        "time": f"{sum(outcome.seconds for outcome in outcomes):.6f}",
    }


def _case(suite: Element, file: str, name: str, seconds: float, line: int) -> Element:
    attributes = {"classname": _legal(file), "name": _legal(name), "file": _legal(file), "line": str(line)}
    return SubElement(suite, "testcase", {**attributes, "time": f"{seconds:.6f}"})


def _detail(case: Element, kind: str, message: str, lines: Sequence[str]) -> None:
    detail = SubElement(case, kind, {"message": message})
    detail.text = _legal("\n".join(lines))


def _legal(text: str) -> str:
    """Return the text with U+FFFD in place of each character that XML does not allow, not even escaped."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
