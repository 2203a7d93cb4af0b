from typing import Any

from hypothesis import HealthCheck, given, settings

from app.alerting.conditions.above import Above
from app.alerting.conditions.below import Below
from app.alerting.conditions.inside import Inside
from app.alerting.conditions.outside import Outside
from app.alerting.episodes.samples import ValueOf
from app.alerting.language.files import parse_rules
from app.alerting.rules.model import (
    ChannelDefinition,
    Clear,
    Inhibition,
    LateData,
    LevelRule,
    NoData,
    Override,
    Rule,
    RuleSet,
    Selector,
    Terms,
    condition_text,
    decode_rule_set,
    encode_rule_set,
)
from app.alerting.rules.mutes import MuteWindow
from app.durations import parse_duration
from tests.alerting.rule_texts import ENVIRON, FULL, as_yaml, rule, rule_documents

MINUTE = 60_000_000
HOUR = 60 * MINUTE


def test_rule_set_holds_every_field_of_the_file() -> None:
    window = MuteWindow(days=("sat", "sun"), from_us=22 * HOUR, to_us=6 * HOUR, tz="Europe/Berlin")
    terms = Terms(
        levels=(
            LevelRule("warning", Above(8.0), for_us=10 * MINUTE),
            LevelRule("critical", Above(12.0), for_us=2 * MINUTE, notify=("ops-telegram", "duty-slack")),
        ),
        value=ValueOf("last", 0),
        unit="°C",
        clear=Clear(Below(7.0), for_us=5 * MINUTE),
        max_gap_us=5 * MINUTE,
        late_data=LateData(accept_us=24 * HOUR, live_us=15 * MINUTE, notify="summary"),
        no_data=NoData(after_us=30 * MINUTE, then="alert"),
        notify=("ops-telegram",),
        mute=(window,),
        message="{sensor} in {site}: {value}{unit}, limit {threshold}",
        runbook="https://wiki.example/cold-room",
    )
    freezer = Terms(
        levels=(
            LevelRule("warning", Above(-15.0), for_us=10 * MINUTE),
            LevelRule("critical", Above(-10.0), for_us=2 * MINUTE, notify=("ops-telegram", "duty-slack")),
        ),
        value=terms.value,
        unit=terms.unit,
        clear=Clear(Below(-16.0), for_us=5 * MINUTE),
        max_gap_us=terms.max_gap_us,
        late_data=terms.late_data,
        no_data=terms.no_data,
        notify=terms.notify,
        mute=terms.mute,
        message=terms.message,
        runbook=terms.runbook,
    )
    assert parse_rules({"rules.yml": FULL}, ENVIRON) == RuleSet(
        rules=(
            Rule(
                name="cold-room-too-warm",
                sensors=Selector(metric="temperature", tags={"room": "cold"}),
                terms=terms,
                overrides=(Override(Selector(id="freezer-3"), freezer),),
                inhibited_by=(Inhibition("gateway-offline", ("gateway",)),),
                group_by=("site",),
                remind_every_us=4 * HOUR,
            ),
        ),
        channels=(
            ChannelDefinition(
                "ops-telegram",
                "telegram",
                {"bot_token": "${TELEGRAM_BOT_TOKEN}", "chat_id": "${TELEGRAM_CHAT_ID}"},
            ),
            ChannelDefinition("duty-slack", "slack", {"webhook_url": "${SLACK_WEBHOOK_URL}"}),
        ),
    )


def test_rule_has_the_documented_defaults_when_fields_are_left_out() -> None:
    (read,) = parse_rules({"rules.yml": rule("levels: {error: {inside: [2, 8]}}")}, {}).rules
    assert read == Rule(
        name="r",
        sensors=Selector(metric="temperature"),
        terms=Terms(
            levels=(LevelRule("error", Inside(2.0, 8.0), for_us=0, notify=None),),
            value=ValueOf("last", 0),
            unit=None,
            clear=Clear(None, 0),
            max_gap_us=None,
            late_data=LateData(accept_us=86_400_000_000, live_us=900_000_000, notify="summary"),
            no_data=None,
            notify=(),
        ),
        remind_every_us=14_400_000_000,
    )


def test_stored_rule_set_holds_no_secrets() -> None:
    stored = encode_rule_set(parse_rules({"rules.yml": FULL}, ENVIRON)).decode()
    assert "${TELEGRAM_BOT_TOKEN}" in stored
    assert not any(secret in stored for secret in ENVIRON.values())


def test_notified_at_returns_the_channels_of_the_level_when_it_has_some() -> None:
    (read,) = parse_rules({"rules.yml": FULL}, ENVIRON).rules
    assert read.terms.notified_at("warning", {}) == ("ops-telegram",)
    assert read.terms.notified_at("critical", {}) == ("ops-telegram", "duty-slack")
    assert read.terms.notified_at("disaster", {}) == ("ops-telegram",)


def test_condition_text_drops_needless_zeros() -> None:
    assert condition_text(Above(8.0)) == "above 8"
    assert condition_text(Outside(-2.5, 8.0)) == "outside -2.5 to 8"
    assert condition_text(Below(0.1)) == "below 0.1"
    assert condition_text(Inside(2.0, 8.0)) == "inside 2 to 8"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rule_documents)
def test_rule_set_survives_encoding_when_rules_are_random(document: dict[str, Any]) -> None:
    read = parse_rules({"rules.yml": as_yaml(document)}, {"CHANNEL_HOOK": "x"})
    assert decode_rule_set(encode_rule_set(read)) == read
    for rule_read, written in zip(read.rules, document["rules"], strict=True):
        assert rule_read.name == written["name"]
        assert [level.name for level in rule_read.terms.levels] == list(written["levels"])
        for level in rule_read.terms.levels:
            assert level.for_us == parse_duration(written["levels"][level.name].get("for", "0"))
