from xml.etree.ElementTree import Element, fromstring

from app.alerting.trials.junit import FileResult, write_junit
from app.alerting.trials.rule_tests import RuleTestResult
from app.yaml_files.problems import FileProblem, Place


def written(**results: FileResult) -> Element:
    return fromstring(write_junit(results))  # noqa: S314 -- our own


def test_results_are_counted_and_listed_test_by_test() -> None:
    passed = RuleTestResult(Place("a", 3, 5), "fires", (), 0.25)
    failed = RuleTestResult(Place("a", 9, 5), "ends", ("- a < b", "+ c"), 0.5)
    problem = FileProblem("b", 2, 1, 'unknown key "x"')
    suites = written(a=FileResult((passed, failed)), b=FileResult(problems=(problem, problem)))
    assert suites.attrib == {"tests": "3", "failures": "1", "errors": "1", "time": "0.750000"}
    first, second = suites
    assert first.attrib == {"name": "a", "tests": "2", "failures": "1", "errors": "0", "time": "0.750000"}
    assert [case.attrib for case in first] == [
        {"classname": "a", "name": "fires", "file": "a", "line": "3", "time": "0.250000"},
        {"classname": "a", "name": "ends", "file": "a", "line": "9", "time": "0.500000"},
    ]
    assert [(detail.tag, detail.text) for detail in first[1]] == [("failure", "- a < b\n+ c")]
    assert [(detail.tag, detail.text) for detail in second[0]] == [
        ("error", 'b:2:1: unknown key "x"\nb:2:1: unknown key "x"')
    ]


def test_characters_that_xml_does_not_allow_are_replaced() -> None:
    outcome = RuleTestResult(Place("a", 1, 1), "bell \x07", ("- \x00 \ud800 😀",), 0.0)
    (suite,) = written(a=FileResult((outcome,)))
    assert suite[0].attrib["name"] == "bell \ufffd"
    assert suite[0][0].text == "- \ufffd \ufffd 😀"
