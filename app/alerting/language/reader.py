"""Turning the mappings read from rule files into rules; what a mapping leaves out keeps the value of its base.

The base of an override is its rule, the base of a rule is the `defaults` section of its file, and the base of that
section is the built-in defaults.
"""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, TypeVar

import msgspec

from app.alerting.conditions import CONDITIONS, Condition
from app.alerting.episodes.samples import ValueOf
from app.alerting.language.channels import ChannelCheck, ReadChannel, check_channel
from app.alerting.language.checks import check_can_match, check_level_order, check_message, check_terms
from app.alerting.language.names import Names
from app.alerting.rules.model import (
    ChannelDefinition,
    Clear,
    Escalation,
    Inhibition,
    LateData,
    LevelRule,
    NoData,
    Offline,
    Override,
    Route,
    Rule,
    Selector,
    Terms,
    When,
)
from app.alerting.rules.mutes import DAYS, MuteWindow
from app.clock import DAY_US
from app.model import LEVEL_NAMES, severity
from app.yaml_files.mappings import Given
from app.yaml_files.problems import Place, ProblemLog, problem_at

#: Largest size in bytes of all rules as they are stored. Each rule and each override has a copy of its base, so a
#: small file can make large rules.
LARGEST_RULES_BYTES = 20_000_000
#: Stands for "every channel" until all files are read. No channel can have this name.
EVERY_CHANNEL = ("*",)

Otherwise = TypeVar("Otherwise", tuple[str, ...], tuple[str, ...] | None)

_NO_NAME = "?"
_BUILT_IN_DEFAULTS = Rule(name=_NO_NAME, sensors=Selector(), terms=Terms(levels=(), notify=EVERY_CHANNEL))


class RuleReader:
    """Reads the rules and channels of one file after another; problems go to the log."""

    def __init__(self, log: ProblemLog, names: Names) -> None:
        self._log = log
        self._names = names
        self._bytes = 0
        #: Of the `defaults` of the file that is being read.
        self._holidays: tuple[tuple[date, date], ...] = ()

    def read_rules(self, file: Given) -> Iterator[Rule]:
        """Yield the rules of a file, with its defaults applied; a rule with problems may lack parts.

        Raise FileErrors when all rules together take more than LARGEST_RULES_BYTES.
        """
        given_defaults: Given = file.get("defaults", Given(file.place))
        self._holidays = given_defaults.get("holidays", ())
        defaults = self._apply(given_defaults, _BUILT_IN_DEFAULTS)
        check_message(defaults, Selector(), given_defaults, self._log)
        for given in file.get("rules", ()):
            rule = self._read_rule(given, defaults)
            inhibitions = self._inhibitions(rule.name, given, given_defaults)
            self._count_bytes(inhibitions, given.place)
            yield msgspec.structs.replace(rule, inhibited_by=inhibitions)

    def read_channels(
        self, file: Given, environ: Mapping[str, str], check: ChannelCheck | None
    ) -> Iterator[ChannelDefinition]:
        """Yield the channels of a file, with references to secrets unresolved."""
        channels: Given = file.get("channels", Given(file.place))
        for name, place in channels.places.items():
            self._names.define_channel(name, place)
            channel: ReadChannel | None = channels.get(name)
            if channel is not None:
                definition = channel.define(name)
                check_channel(definition, channel.given, environ, check if channel.is_whole else None, self._log)
                yield definition

    def _read_rule(self, given: Given, defaults: Rule) -> Rule:
        name = given.get("name", _NO_NAME)
        if name != _NO_NAME:
            self._names.define_rule(name, given.places["name"])
        if given.get("kind") == "gateway_offline":
            return self._read_offline(name, given, defaults)
        base = msgspec.structs.replace(defaults, name=name, sensors=self._selector(given))
        rule = self._apply(given, base)
        self._count_bytes(rule, given.place)
        check_terms(rule.terms, given, self._log)
        check_message(rule, rule.sensors, given, self._log)
        overrides = tuple(self._override(override, rule) for override in given.get("overrides", ()))
        return msgspec.structs.replace(rule, overrides=overrides)

    def _read_offline(self, name: str, given: Given, defaults: Rule) -> Rule:
        """Return a rule about whole gateways."""
        base = msgspec.structs.replace(defaults, name=name, sensors=Selector())
        rule = self._apply(given, base)
        self._count_bytes(rule, given.place)
        check_message(rule, rule.sensors, given, self._log)
        offline = Offline(given.get("gateways", "*"), given.get("after"), given.get("level", "error"))
        return msgspec.structs.replace(rule, offline=offline)

    def _apply(self, given: Given, base: Rule) -> Rule:
        """Return the base with what a rule, or a file's `defaults`, set; overrides and inhibitions are read apart."""
        zone = given.get("timezone", base.timezone)
        return msgspec.structs.replace(
            base,
            terms=self._terms(given, base.terms, zone),
            group_by=given.get("group_by", base.group_by),
            remind_every_us=given.get("remind_every", base.remind_every_us),
            group_wait_us=given.get("group_wait", base.group_wait_us),
            update_every_us=given.get("update_every", base.update_every_us),
            timezone=zone,
            escalate=self._escalation(given.get("escalate"), base.escalate),
        )

    def _override(self, given: Given, rule: Rule) -> Override:
        selector = self._selector(given)
        check_can_match(rule.sensors, selector, given, self._log)
        if set(given.places) == {"sensors"} and not given.unknown:
            self._log.add(given.place, "this override changes nothing; say what differs, such as levels:")
        terms = self._terms(given, rule.terms, rule.timezone)
        self._count_bytes(terms, given.place)
        check_terms(terms, given, self._log, base=rule.terms)
        check_message(msgspec.structs.replace(rule, terms=terms), selector, given, self._log)
        return Override(selector, terms)

    def _count_bytes(self, part: object, place: Place) -> None:
        self._bytes += len(msgspec.json.encode(part))
        if self._bytes > LARGEST_RULES_BYTES:
            raise problem_at(
                place,
                f"up to here the rules take more than {LARGEST_RULES_BYTES:,} bytes, where each rule and each override "
                "has a copy of what it takes from its defaults or its rule; write less in these",
            )

    def _terms(self, given: Given, base: Terms, zone: str | None) -> Terms:
        return msgspec.structs.replace(
            base,
            value=_value(given, base.value),
            unit=given.get("unit", base.unit),
            levels=self._levels(given, base.levels),
            clear=self._clear(given.get("clear"), base.clear),
            max_gap_us=given.get("max_gap", base.max_gap_us),
            holds=given.get("holds", base.holds),
            when=self._when(given, base.when),
            late_data=_late_data(given.get("late_data"), base.late_data),
            no_data=_no_data(given.get("no_data"), base.no_data),
            notify=self._channels(given, base.notify),
            routes=self._routes(given, base.routes),
            mute=self._mute(given, base.mute, zone or "UTC"),
            message=given.get("message", base.message),
            runbook=given.get("runbook", base.runbook),
        )

    def _selector(self, given: Given) -> Selector:
        sensors: Given | None = given.get("sensors")
        if sensors is None:
            return Selector()
        if sensors.lacks("id", "metric", "tags", "gateway"):
            self._log.add(sensors.place, 'say which sensors: metric, id, tags or gateway; id: "*" for all')
        tags: Given = sensors.get("tags", Given(sensors.place))
        return Selector(
            id=sensors.get("id"), metric=sensors.get("metric"), tags=tags.values, gateway=sensors.get("gateway")
        )

    def _levels(self, given: Given, base: tuple[LevelRule, ...]) -> tuple[LevelRule, ...]:
        changed: Given | None = given.get("levels")
        if changed is None:
            return base
        if changed.lacks(*LEVEL_NAMES):
            self._log.add(changed.place, '"levels" takes at least one level, such as {warning: {above: 8.0}}')
        check_level_order(changed, self._log)
        levels: dict[str, LevelRule] = {level.name: level for level in base}
        for name, given_level in changed.values.items():
            level = self._level(name, given_level, levels.get(name))
            if level is not None:
                levels[level.name] = level
        return tuple(sorted(levels.values(), key=lambda level: severity(level.name)))

    def _level(self, name: Any, given: Given, base: LevelRule | None) -> LevelRule | None:
        """Return a level; log a level without a condition, neither its own nor from the rule, and return None."""
        condition = self._condition(given) or (base.condition if base else None)
        if condition is None:
            if given.lacks(*CONDITIONS):
                self._log.add(given.place, f'"{name}" needs a condition: one of {", ".join(CONDITIONS)}')
            return None
        return LevelRule(
            name=name,
            condition=condition,
            for_us=given.get("for", base.for_us if base else 0),
            notify=self._channels(given, base.notify if base else None),
            routes=self._routes(given, base.routes if base else ()),
        )

    def _clear(self, given: Given | None, base: Clear) -> Clear:
        if given is None:
            return base
        return Clear(self._condition(given) or base.condition, given.get("for", base.for_us))

    def _when(self, given: Given, base: tuple[When, ...]) -> tuple[When, ...]:
        """Return the second metrics; those without a metric, a condition or an age have been logged, or are here."""
        if "when" not in given.values:
            return base
        found: list[When] = []
        for one in given.values["when"]:
            condition = self._condition(one)
            if condition is None and one.lacks(*CONDITIONS):
                self._log.add(one.place, f'"when" needs a condition: one of {", ".join(CONDITIONS)}')
            if condition is not None and {"metric", "max_age"} <= set(one.values):
                found.append(When(one.values["metric"], condition, one.values["max_age"], one.get("same", ())))
        return tuple(found)

    def _condition(self, given: Given) -> Condition | None:
        keywords = [key for key in given.places if key in CONDITIONS]
        for extra in keywords[1:]:
            self._log.add(given.places[extra], f'"{extra}" beside "{keywords[0]}": there can be one condition only')
        if not keywords or keywords[0] not in given.values:
            return None
        numbers = given.values[keywords[0]]
        return CONDITIONS[keywords[0]](*(numbers if isinstance(numbers, tuple) else (numbers,)))

    def _channels(self, given: Given, otherwise: Otherwise) -> tuple[str, ...] | Otherwise:
        if "notify" not in given.values:
            return otherwise
        return self._names.use_channels(tuple(one for one in given.values["notify"] if not isinstance(one, Given)))

    def _routes(self, given: Given, otherwise: tuple[Route, ...]) -> tuple[Route, ...]:
        if "notify" not in given.values:
            return otherwise
        routes: list[Given] = [one for one in given.values["notify"] if isinstance(one, Given)]
        for one in routes:
            if "tags" in one.values and not one.values["tags"].places:
                self._log.add(one.places["tags"], '"tags" takes at least one tag, such as {site: dairy}')
        return tuple(
            Route(self._names.use_channels(one.values["to"]), one.values["tags"].values)
            for one in routes
            if one.values.keys() >= {"to", "tags"}
        )

    def _escalation(self, given: Given | None, base: Escalation | None) -> Escalation | None:
        if given is None or not given.values.keys() >= {"after", "notify"}:
            return base
        return Escalation(given.values["after"], self._names.use_channels(given.values["notify"]))

    def _inhibitions(self, name: str, given: Given, defaults: Given) -> tuple[Inhibition, ...]:
        """Return the inhibitions of a rule; those from `defaults` that name the rule itself are left out."""
        own: tuple[Given, ...] | None = given.get("inhibited_by")
        inherited = (one for one in defaults.get("inhibited_by", ()) if _inhibitor(one) != name)
        named = [one for one in (inherited if own is None else own) if "rule" in one.values]
        for one in named:
            self._names.inhibit(name, one.values["rule"])
        return tuple(Inhibition(one.values["rule"].name, one.get("same", ())) for one in named)

    def _mute(self, given: Given, base: tuple[MuteWindow, ...], zone: str) -> tuple[MuteWindow, ...]:
        own = tuple(self._window(each, zone) for each in given.values["mute"]) if "mute" in given.values else base
        if "holidays" not in given.values:
            inherited = next((window.holidays for window in base), self._holidays)
            return tuple(msgspec.structs.replace(window, holidays=window.holidays or inherited) for window in own)
        return tuple(msgspec.structs.replace(window, holidays=given.values["holidays"]) for window in own)

    def _window(self, given: Given, zone: str) -> MuteWindow:
        window = MuteWindow(
            days=given.get("days", DAYS),
            from_us=given.get("from", 0),
            to_us=given.get("to", DAY_US),
            tz=given.get("tz", zone),
            dates=given.get("dates", ()),
            only="only" in given.values,
        )
        if given.lacks("days", "dates", "from", "to"):
            message = 'this would mute the rule for ever; set "days", "dates", "from" or "to"'
            self._log.add(given.place, message if not window.only else message.replace("mute", "never mute"))
        if window.from_us == window.to_us:
            self._log.add(given.place_of("to"), 'this window is empty; for a whole day leave out "from" and "to"')
        return window


def _inhibitor(inhibition: Given) -> str | None:
    return inhibition.values["rule"].name if "rule" in inhibition.values else None


def _value(given: Given, base: ValueOf) -> ValueOf:
    """Return what is compared; an override may give only one of `value` and `counter`."""
    value: ValueOf = given.get("value", base)
    return msgspec.structs.replace(value, counter=given.get("counter", base.counter))


def _late_data(given: Given | None, base: LateData) -> LateData:
    if given is None:
        return base
    return LateData(
        accept_us=given.get("accept", base.accept_us),
        live_us=given.get("live", base.live_us),
        notify=given.get("notify", base.notify),
    )


def _no_data(given: Given | None, base: NoData | None) -> NoData | None:
    if given is None:
        return base
    base = base or NoData()
    return NoData(after_us=given.get("after", base.after_us), then=given.get("then", base.then))
