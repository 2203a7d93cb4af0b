"""Checks that compare several values: levels that contradict each other, overrides that never match."""

from itertools import pairwise

from app.alerting.conditions import can_hold_together, implies
from app.alerting.rules.model import LevelRule, Rule, Selector, Terms, condition_text
from app.model import severity
from app.rule_texts import placeholder_faults
from app.yaml_files.mappings import Given
from app.yaml_files.problems import ProblemLog


def check_level_order(levels: Given, log: ProblemLog) -> None:
    """Log each level that stands after a more severe one."""
    for before, after in pairwise(levels.places):
        if severity(before) > severity(after):
            log.add(levels.places[after], f'"{after}" is less severe than "{before}": list the least severe first')


def check_terms(terms: Terms, given: Given, log: ProblemLog, base: Terms | None = None) -> None:
    """Log each level that does not imply the less severe one before it, and a `clear` that overlaps the lowest level.

    `base` is set for an override: a contradiction that the rule itself has is logged for the rule only.
    """
    _check_kind(terms, given, log, base)
    levels: Given = given.get("levels", given)
    valid = {level.name for level in terms.levels}
    if "levels" in given.places and not valid.issuperset(levels.places):
        return
    of_base = _contradictions(base) if base else {}
    for contradiction, names in _contradictions(terms).items():
        if contradiction not in of_base:
            place = given.place_of("clear", "levels") if names[0] == "clear" else levels.place_of(*names)
            log.add(place, contradiction)


def _check_kind(terms: Terms, given: Given, log: ProblemLog, base: Terms | None) -> None:
    """Log a `counter` or `holds` that does not fit. What does not fit in the rule is logged there."""
    of_base = [] if base is None else _misfits(base)
    for keys, message in _misfits(terms):
        if (keys, message) not in of_base:
            log.add(given.place_of(*keys), message)


def _misfits(terms: Terms) -> list[tuple[tuple[str, ...], str]]:
    """Return what does not fit, as (keys at which it is logged, message)."""
    value, found = terms.value, list[tuple[tuple[str, ...], str]]()
    if value.counter and value.kind != "rate":
        wanted = '"increase" knows resets by itself' if value.kind == "increase" else "leave it out"
        found.append((("counter", "value"), f'"counter" is for value: "rate …" only, not for "{value.kind}"; {wanted}'))
    if terms.holds and value.kind != "last":
        found.append((("holds", "value"), f'"holds" is for value: last only, not for "{value.kind}"; set holds: false'))
    if terms.holds and terms.max_gap_us is None:
        message = '"holds" needs "max_gap": how long a value counts at most, such as max_gap: 12h'
        found.append((("holds", "max_gap"), message))
    return found


def check_message(rule: Rule, sensors: Selector, given: Given, log: ProblemLog) -> None:
    """Log each placeholder of a mapping's own message that is neither known nor a tag that the rule names."""
    if "message" not in given.values:
        return
    routes = (*rule.terms.routes, *(route for level in rule.terms.levels for route in level.routes))
    tags = dict.fromkeys(
        (*rule.sensors.tags, *sensors.tags, *rule.group_by, *(tag for one in routes for tag in one.tags))
    )
    for fault in placeholder_faults(given.values["message"], tags):
        log.add(given.places["message"], f'"message": {fault}')


def check_can_match(rule: Selector, override: Selector, given: Given, log: ProblemLog) -> None:
    """Log an override whose selector excludes every sensor of its rule."""
    contradictions = [
        (name, in_rule, in_override)
        for name, in_rule, in_override in (
            ("metric", rule.metric, override.metric),
            ("gateway", rule.gateway, override.gateway),
            *((f"tag {tag}", rule.tags.get(tag), value) for tag, value in override.tags.items()),
        )
        if in_rule is not None and in_override is not None and in_rule != in_override
    ]
    for name, in_rule, in_override in contradictions:
        log.add(
            given.place_of("sensors"),
            f'this never matches: {name} is "{in_override}" here and "{in_rule}" in the rule',
        )


def _contradictions(terms: Terms) -> dict[str, tuple[str, str]]:
    """Return the contradictions as message → names of the two keys that contradict each other."""
    found: dict[str, tuple[str, str]] = {}
    for mild, severe in pairwise(terms.levels):
        if not implies(severe.condition, mild.condition):
            message = (
                f"{_level_text(severe)} can hold without {_level_text(mild)}; "
                "a more severe level must lie within the one before"
            )
            found[message] = (severe.name, mild.name)
    clear = terms.clear.condition
    if clear is not None and terms.levels and can_hold_together(clear, terms.levels[0].condition):
        message = (
            f'"clear" ({condition_text(clear)}) can hold together with {_level_text(terms.levels[0])}; '
            "it must lie outside the lowest level"
        )
        found[message] = ("clear", terms.levels[0].name)
    return found


def _level_text(level: LevelRule) -> str:
    return f'"{level.name}" ({condition_text(level.condition)})'
