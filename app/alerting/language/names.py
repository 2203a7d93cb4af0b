"""Check of names across rule files: each rule and channel is defined once, and each name that is used is defined."""

from app.alerting.language.leaves import Reference
from app.alerting.rules.model import BUILT_IN_RULES
from app.hints import did_you_mean, listed
from app.yaml_files.problems import Place, ProblemLog


class Names:
    """Collects the names of rules and channels while files are read, and then checks them together."""

    def __init__(self, log: ProblemLog) -> None:
        self._log = log
        self._rules: dict[str, Place] = {}
        self._channels: dict[str, Place] = {}
        self._used_channels: list[Reference] = []
        self._inhibitors: dict[str, list[Reference]] = {}

    def define_rule(self, name: str, place: Place) -> None:
        """Record the name of a rule; log a name that is built in or defined already, with both places."""
        if name in BUILT_IN_RULES:
            self._log.add(place, f'the rule "{name}" is built in; choose another name')
        else:
            self._define("rule", self._rules, name, place)

    def define_channel(self, name: str, place: Place) -> None:
        """Record the name of a channel; log a name that is defined already, with both places."""
        self._define("channel", self._channels, name, place)

    def use_channels(self, channels: tuple[Reference, ...]) -> tuple[str, ...]:
        """Record that channels are referred to, and return their names."""
        self._used_channels.extend(channels)
        return tuple(channel.name for channel in channels)

    def inhibit(self, rule: str, by: Reference) -> None:
        """Record that a rule is inhibited by another."""
        self._inhibitors.setdefault(rule, []).append(by)

    def check(self) -> None:
        """Log every name that is used but not defined, and every cycle of inhibitions."""
        for channel in self._used_channels:
            if channel.name not in self._channels:
                self._log.add(channel.place, _unknown("channel", channel.name, list(self._channels)))
        rules = [*self._rules, *BUILT_IN_RULES]
        for inhibitors in self._inhibitors.values():
            for by in inhibitors:
                if by.name not in rules:
                    self._log.add(by.place, _unknown("rule", by.name, rules))
        self._check_cycles()

    def _define(self, kind: str, defined: dict[str, Place], name: str, place: Place) -> None:
        first = defined.setdefault(name, place)
        if first != place:
            self._log.add(place, f'the {kind} "{name}" is defined twice, first at {first}; choose another name')

    def _check_cycles(self) -> None:
        seen: set[str] = set()
        for rule in self._inhibitors:
            if rule not in seen:
                self._walk(rule, seen)

    def _walk(self, rule: str, seen: set[str]) -> None:
        """Follow the inhibitions of a rule depth first, and log each that leads back to a rule on the path.

        The path has a stack of its own, because thousands of rules may inhibit one another in a row.
        """
        path = {rule: iter(self._inhibitors[rule])}
        seen.add(rule)
        while path:
            by = next(next(reversed(path.values())), None)
            if by is None:
                path.popitem()
            elif by.name in path:
                names = list(path)
                cycle = [*names[names.index(by.name) :], by.name]
                self._log.add(by.place, f'"inhibited_by" forms a cycle: {_listed_cycle(cycle)}')
            elif by.name not in seen:
                seen.add(by.name)
                path[by.name] = iter(self._inhibitors.get(by.name, ()))


def _listed_cycle(names: list[str]) -> str:
    """Join the rules of a cycle for a message, of a long one the first and the last."""
    shown = names if len(names) <= 20 else [*names[:10], "…", *names[-5:]]
    return ", inhibited by ".join(shown)


def _unknown(kind: str, name: str, known: list[str]) -> str:
    there_are = f"there are: {listed(known)}" if known else f"no {kind} is defined; put one under {kind}s:"
    return f'there is no {kind} "{name[:100]}"{did_you_mean(name, known)} ({there_are})'
