"""Rule files for tests: the example of the documentation, and random valid files."""

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

ENVIRON = {"TELEGRAM_BOT_TOKEN": "1:a", "TELEGRAM_CHAT_ID": "-100", "SLACK_WEBHOOK_URL": "https://hooks.slack.com/x"}

#: Texts of characters that have a meaning in YAML. They find more errors than texts of any characters.
SYNTAX = st.text(
    alphabet=st.sampled_from(
        [*"ab10:-#?*&!|>%@`'\"\\{}[],.~<=/xuU \n\t\r", "\x00", "\x85", "\u2028", "\ufeff", "\ud800", "😀"]
    ),
    max_size=60,
)

FULL = """\
version: 1
defaults:
  notify: [ops-telegram]
  remind_every: 4h
  group_by: [site]
rules:
  - name: cold-room-too-warm
    sensors: {metric: temperature, tags: {room: cold}}
    value: last
    unit: "°C"
    levels:
      warning:  {above: 8.0, for: 10m}
      critical: {above: 12.0, for: 2m, notify: [ops-telegram, duty-slack]}
    clear: {below: 7.0, for: 5m}
    max_gap: 5m
    late_data: {accept: 24h, live: 15m, notify: summary}
    no_data: {after: 30m, then: alert}
    overrides:
      - sensors: {id: freezer-3}
        levels: {warning: {above: -15.0}, critical: {above: -10.0}}
        clear: {below: -16.0}
    mute: [{days: [sat, sun], from: "22:00", to: "06:00", tz: Europe/Berlin}]
    inhibited_by: [{rule: gateway-offline, same: [gateway]}]
    message: "{sensor} in {site}: {value}{unit}, limit {threshold}"
    runbook: https://wiki.example/cold-room
channels:
  ops-telegram: {type: telegram, bot_token: "${TELEGRAM_BOT_TOKEN}", chat_id: "${TELEGRAM_CHAT_ID}"}
  duty-slack:   {type: slack, webhook_url: "${SLACK_WEBHOOK_URL}"}
"""


def rule(body: str, name: str = "r") -> str:
    """Return a file with one rule on the metric temperature; `body` holds the other keys of the rule."""
    lines = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    return f"version: 1\nrules:\n  - name: {name}\n    sensors: {{metric: temperature}}\n{lines}\n"


def mistakes(name: str) -> list[tuple[str, list[str]]]:
    """Read language/mistakes/NAME.txt: invalid texts, each with the problems that are reported for it."""
    path = Path(__file__).parent / "language" / "mistakes" / f"{name}.txt"
    _, *cases = path.read_text(encoding="utf-8").split("\n----\n")
    return [_split_mistake(case) for case in cases]


def _split_mistake(case: str) -> tuple[str, list[str]]:
    text, *problems = case.strip("\n").split("\n=> ")
    return f"{text}\n", problems


def as_yaml(document: Any) -> str:
    """Return a document as JSON, which is valid YAML."""
    return json.dumps(document, ensure_ascii=False)


Strategies = dict[str, st.SearchStrategy[Any]]

_LEVELS = ("info", "warning", "error", "critical", "disaster")
_CHANNELS = ("ops", "duty", "night.shift_2")
_names = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
_texts = st.text(alphabet=st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=8).filter(
    lambda text: not set("{}$") & set(text)
)
_durations = st.builds("{}{}".format, st.integers(1, 50), st.sampled_from(["s", "m", "h", "d"]))
_times = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
_labels = st.lists(_names, max_size=3, unique=True)
_notify = st.lists(st.sampled_from(_CHANNELS), max_size=3, unique=True)


def _mapping(
    required: Strategies | None = None, /, **optional: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    named = {key.rstrip("_"): value for key, value in optional.items()}
    return st.fixed_dictionaries(required or {}, optional=named)


_selectors = _mapping(
    id=_texts, metric=_names, tags=st.dictionaries(_names, _texts, max_size=2), gateway=_texts
).filter(bool)


@st.composite
def _levels_and_clear(draw: st.DrawFn) -> dict[str, Any]:
    """Draw levels of which each implies the one before, and a `clear` that excludes the lowest level."""
    names = sorted(draw(st.sets(st.sampled_from(_LEVELS), min_size=1)), key=_LEVELS.index)
    limits = sorted(draw(st.lists(st.integers(-50, 50), min_size=len(names), max_size=len(names))))
    kind = draw(st.sampled_from(["above", "below", "outside", "equals"]))
    conditions: dict[str, list[Any]] = {
        "above": [{"above": limit} for limit in limits],
        "below": [{"below": -limit} for limit in limits],
        "outside": [{"outside": [-limit - 100, limit + 100]} for limit in limits],
        "equals": [{"equals": limits[0]} for _ in limits],
    }
    clears: dict[str, dict[str, Any]] = {
        "above": {"below": limits[0]},
        "below": {"above": -limits[0]},
        "outside": {"inside": [-40, 40]},
        "equals": {},
    }
    timing = _mapping(for_=_durations, notify=_notify)
    levels = {name: condition | draw(timing) for name, condition in zip(names, conditions[kind], strict=True)}
    clear = clears[kind] | draw(_mapping(for_=_durations))
    return {"levels": levels} | draw(_mapping(clear=st.just(clear)))


_windows = _mapping(
    {"from": st.just("20:00")},
    days=st.lists(st.sampled_from(["mon", "wed", "sun"]), min_size=1, max_size=3, unique=True),
    to=_times.filter(lambda time: time != "20:00"),
    tz=st.sampled_from(["UTC", "America/Sao_Paulo", "Europe/Berlin"]),
)
_common: Strategies = {
    "max_gap": _durations,
    "late_data": _mapping(accept=_durations, live=_durations, notify=st.sampled_from(["summary", "normal", "never"])),
    "no_data": _mapping(after=_durations, then=st.sampled_from(["alert", "keep", "clear"])),
    "notify": _notify,
    "mute": st.lists(_windows, max_size=2),
    "message": _texts.map(lambda text: f"{text}: {{value}}"),
    "runbook": st.just("https://wiki.example/x"),
}
_whole: Strategies = {
    "group_by": _labels,
    "remind_every": st.one_of(_durations.filter(lambda text: not text.endswith("s")), st.just("never")),
    "inhibited_by": st.lists(st.fixed_dictionaries({"rule": st.just("gateway-offline"), "same": _labels}), max_size=1),
}
_value = st.one_of(
    st.just("last"), st.builds("{} {}".format, st.sampled_from(["avg", "min", "max", "rate", "delta"]), _durations)
)


@st.composite
def _rules(draw: st.DrawFn) -> dict[str, Any]:
    selector = draw(_selectors)
    says: Strategies = {"unit": _texts, **_common}
    override = _mapping({"sensors": _texts.map(lambda text: {"id": text}), "value": _value}, **says)
    rest = draw(_mapping(value=_value, **says, **_whole, overrides=st.lists(override, max_size=2)))
    return {"name": draw(_names), "sensors": selector} | draw(_levels_and_clear()) | rest


rule_documents = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "rules": st.lists(_rules(), max_size=4, unique_by=lambda one: one["name"]),
        "channels": st.just({name: {"type": "slack", "webhook_url": "${CHANNEL_HOOK}"} for name in _CHANNELS}),
    },
    optional={"defaults": _mapping(**_common, **_whole)},
)
