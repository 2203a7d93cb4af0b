"""What no single value shows: levels that contradict each other, overrides that never match."""

from itertools import pairwise

from app.alerting.conditions import can_hold_together, implies
from app.alerting.language.kinds import Given
from app.alerting.rules.model import LevelRule, Selector, Terms, condition_text
from app.alerting.rules.problems import ProblemLog
from app.model import severity


def check_level_order(levels: Given, log: ProblemLog) -> None:
    """Log each level that stands after a more severe one."""
    for before, after in pairwise(levels.places):
        if severity(before) > severity(after):
            log.add(levels.places[after], f'"{after}" is less severe than "{before}": list the least severe first')


def check_terms(terms: Terms, given: Given, log: ProblemLog, base: Terms | None = None) -> None:
    """Log levels of which the more severe does not imply the less severe, and a clear that overlaps the first.

    What an override only takes over from `base` is the rule's problem.
    """
    levels: Given = given.get("levels", given)
    read = {level.name for level in terms.levels}
    if "levels" in given.places and not read.issuperset(levels.places):
        return
    told = _contradictions(base) if base else {}
    for contradiction, names in _contradictions(terms).items():
        if contradiction not in told:
            place = given.place_of("clear", "levels") if names[0] == "clear" else levels.place_of(*names)
            log.add(place, contradiction)


def check_can_match(rule: Selector, override: Selector, given: Given, log: ProblemLog) -> None:
    """Log an override whose selector excludes every sensor of its rule."""
    contradictions = [
        (name, theirs, ours)
        for name, theirs, ours in (
            ("metric", rule.metric, override.metric),
            ("gateway", rule.gateway, override.gateway),
            *((f"tag {tag}", rule.tags.get(tag), value) for tag, value in override.tags.items()),
        )
        if theirs is not None and ours is not None and theirs != ours
    ]
    for name, theirs, ours in contradictions:
        log.add(given.place_of("sensors"), f'this never matches: {name} is "{ours}" here and "{theirs}" in the rule')


def _contradictions(terms: Terms) -> dict[str, tuple[str, str]]:
    """Say what contradicts what, by the names of the keys concerned."""
    found: dict[str, tuple[str, str]] = {}
    for mild, severe in pairwise(terms.levels):
        if not implies(severe.condition, mild.condition):
            found[
                f"{_shown(severe)} can hold without {_shown(mild)}; a more severe level must lie within the one before"
            ] = (severe.name, mild.name)
    clear = terms.clear.condition
    if clear is not None and terms.levels and can_hold_together(clear, terms.levels[0].condition):
        found[
            f'"clear" ({condition_text(clear)}) can hold together with {_shown(terms.levels[0])}; '
            "it must lie outside the lowest level"
        ] = ("clear", terms.levels[0].name)
    return found


def _shown(level: LevelRule) -> str:
    return f'"{level.name}" ({condition_text(level.condition)})'
