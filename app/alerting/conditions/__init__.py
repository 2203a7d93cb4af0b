"""Conditions on values, for levels and `clear`: one module a condition, found by its file name.

A condition is the set of values that it accepts, as closed ranges of floats: `above: 8.0` is the range from the next
float after 8.0 to infinity. Comparing ranges decides exactly whether one condition implies another, without code for
each pair. The module `above` holds the class `Above`; its fields, in order, are the arguments of the keyword `above:`.
"""

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol, cast

import msgspec


class Condition(Protocol):
    """A frozen struct of finite floats."""

    def __hash__(self) -> int: ...

    def ranges(self) -> tuple[tuple[float, float], ...]:
        """Return the accepted values as closed ranges in ascending order, with a rejected float between any two."""
        ...


def holds(condition: Condition, value: float) -> bool:
    """Return whether the condition accepts a finite value."""
    return predicate(condition)(value)


@lru_cache(maxsize=10_000)
def predicate(condition: Condition) -> Callable[[float], bool]:
    """Return the condition as a function of a finite value, for loops that must be fast."""
    ranges = condition.ranges()
    if len(ranges) == 1:
        ((low, high),) = ranges
        return lambda value: low <= value <= high
    return lambda value: any(low <= value <= high for low, high in ranges)


@lru_cache(maxsize=10_000)
def constancy(condition: Condition) -> Callable[[float, float], bool | None]:
    """Return a function of a closed interval: whether the condition accepts all of it; None if only a part of it."""
    ranges = condition.ranges()

    def is_constant(low: float, high: float) -> bool | None:
        for accepted_low, accepted_high in ranges:
            if accepted_low <= low and high <= accepted_high:
                return True
            if accepted_low <= high and low <= accepted_high:
                return None
        return False

    return is_constant


def implies(narrow: Condition, wide: Condition) -> bool:
    """Return whether `wide` accepts every value that `narrow` accepts."""
    wide_ranges = wide.ranges()
    return all(any(a <= low and high <= b for a, b in wide_ranges) for low, high in narrow.ranges())


def can_hold_together(one: Condition, other: Condition) -> bool:
    """Return whether both conditions accept some common value."""
    return any(max(a, c) <= min(b, d) for a, b in one.ranges() for c, d in other.ranges())


def farthest(condition: Condition, lowest: float, highest: float) -> float | None:
    """Return the value farther beyond the condition's threshold, or None if the condition has no open side."""
    beyond: list[tuple[float, float]] = []
    for low, high in condition.ranges():
        if high == math.inf:
            beyond.append((highest - low, highest))
        if low == -math.inf:
            beyond.append((high - lowest, lowest))
    return max(beyond)[1] if beyond else None


def keyword_of(condition: Condition) -> str:
    """Return the keyword of a condition in rule files, such as `above`."""
    return next(keyword for keyword, struct in CONDITIONS.items() if struct is type(condition))


def limit_lines(condition: Condition) -> tuple[tuple[str, float], ...]:
    """Return the condition's limits for a chart: `above` or `below` a number, or `at` the ends of a closed range."""
    numbers = [float(number) for number in msgspec.structs.astuple(cast("msgspec.Struct", condition))]
    lines: list[tuple[str, float]] = []
    for low, high in condition.ranges():
        if high == math.inf:
            lines.append(("above", min(numbers, key=lambda number: abs(number - low))))
        elif low == -math.inf:
            lines.append(("below", min(numbers, key=lambda number: abs(number - high))))
        else:
            lines += [("at", end) for end in dict.fromkeys((low, high))]
    return tuple(lines)


def _load_conditions() -> dict[str, Callable[..., Condition]]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return {
        name: cast("Callable[..., Condition]", getattr(module, name.title().replace("_", "")))
        for name, module in modules.items()
    }


#: Keyword in a rule file -> struct, as in `CONDITIONS["inside"](2.0, 8.0)`.
CONDITIONS: Mapping[str, Callable[..., Condition]] = _load_conditions()
