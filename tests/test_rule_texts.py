import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.rule_texts import MISSING, placeholder_faults, render_template, template_fault

FACTS = {"sensor": "fridge-1", "site": "Kiel", "value": "9.1", "unit": "°C", "threshold": "8", "empty": ""}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{sensor} in {site}: {value}{unit}, limit {threshold}", "fridge-1 in Kiel: 9.1°C, limit 8"),
        ("{sensor} on {floor}", "fridge-1 on –"),
        ("[{empty}]", "[]"),
        ("{{sensor}} {{{sensor}}}", "{sensor} {fridge-1}"),
        ("nothing to fill in", "nothing to fill in"),
        ("{Straße.Nr-5}", "–"),
    ],
)
def test_template_is_filled_when_rendered(template: str, text: str) -> None:
    assert template_fault(template) is None
    assert render_template(template, FACTS) == text


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{sensor", 'a "{" is never closed; write {name}, or {{ for a brace'),
        ("sensor}", 'a "}" has no "{" before it; write {name}, or }} for a brace'),
        ("{}", 'the placeholder "{}" has no name; write one such as {sensor}, or {{ and }} for braces'),
        ("{value:.1f}", 'the placeholder "{value:.1f}" is not a plain name such as {value} or {site}'),
        ("{ value }", 'the placeholder "{ value }" is not a plain name such as {value} or {site}'),
    ],
)
def test_template_fault_names_the_correction_when_braces_are_wrong(template: str, fault: str) -> None:
    assert template_fault(template) == fault


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("{}ab :!"), max_size=30))
def test_template_rendering_never_fails(template: str) -> None:
    rendered = render_template(template, {"a": "x"})
    if template_fault(template) is None and "{" not in template:
        assert rendered == template.replace("}}", "}")


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(max_size=10)))
def test_template_fills_every_fact_and_replaces_others_by_a_dash(facts: dict[str, str]) -> None:
    template = "|".join(f"{{{name}}}" for name in (*facts, "NOT_THERE"))
    assert render_template(template, facts) == "|".join([*facts.values(), MISSING])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("{sensr}", '"{sensr}"; did you mean "{sensor}"?'),
        ("{Value}", '"{Value}"; did you mean "{value}"?'),
        ("{tag.site}", 'write "{tags.site}" for a tag'),
    ],
)
def test_placeholder_is_refused_when_it_is_misspelt(text: str, meant: str) -> None:
    (fault,) = placeholder_faults(text, ())
    assert meant in fault


def test_placeholders_may_be_tags() -> None:
    assert placeholder_faults("{value} {peak} {tags.site} {site} {floor} {sensors} {{x}}", ("sensors",)) == []
