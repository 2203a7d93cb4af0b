import copy
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.alerting.language.files import load_checked, load_rules, load_unsent, parse_rules
from app.settings import Settings
from app.yaml_files.problems import FileErrors, FileProblem
from tests.alerting.rule_texts import ENVIRON, FULL, SYNTAX, as_yaml, mistakes, rule, rule_documents

SHIPPED = Path(__file__).parents[3] / "rules"


def problems(texts: str | dict[str, str], **options: Any) -> list[str]:
    """Return the problems of texts that cannot be used; the name of a single file is left out."""
    named = {"x.yml": texts} if isinstance(texts, str) else texts
    with pytest.raises(FileErrors) as raised:
        parse_rules(named, options.pop("environ", ENVIRON), **options)
    assert raised.value.problems == tuple(sorted(raised.value.problems))
    return [str(problem).removeprefix("x.yml:") for problem in raised.value.problems]


# The folder


def test_shipped_rules_work_without_any_environment() -> None:
    rule_set = load_rules(SHIPPED, {})
    assert {rule.sensors.metric for rule in rule_set.rules} == {
        "temperature",
        "humidity",
        "pressure",
        "door",
        "water",
        "level",
        "wind",
    }
    assert rule_set.channels == ()


def test_shipped_channels_are_notified_of_every_rule_when_copied(tmp_path: Path) -> None:
    for file in SHIPPED.glob("*.yml"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "channels.yml").write_text((SHIPPED / "channels.yml.example").read_text())
    rule_set = load_rules(tmp_path, ENVIRON)
    assert [channel.name for channel in rule_set.channels] == ["ops-telegram", "duty-slack"]
    assert {rule.terms.notify for rule in rule_set.rules} == {("ops-telegram", "duty-slack")}
    with pytest.raises(FileErrors, match="the environment variable SLACK_WEBHOOK_URL is not set"):
        load_rules(tmp_path, {})


def test_folder_is_refused_when_missing_empty_or_unreadable(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    (tmp_path / ".hidden.yml").write_text(FULL)
    (tmp_path / "notes.txt").write_text("")
    for folder, message in (
        (missing, "this folder of rules cannot be read: No such file or directory"),
        (tmp_path, "there is no *.yml in this folder of rules; is it mounted?"),
        (Path("\0"), "this folder of rules cannot be read: embedded null byte"),
    ):
        with pytest.raises(FileErrors) as raised:
            load_rules(folder, {})
        assert raised.value.problems == (FileProblem(str(folder), 0, 0, message),)
        assert str(raised.value) == f"{folder}: {message}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_folder_is_refused_when_permission_is_denied(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    try:
        with pytest.raises(FileErrors, match="cannot be read: Permission denied"):
            load_rules(tmp_path, {})
    finally:
        tmp_path.chmod(0o700)


def test_files_that_cannot_be_read_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_bytes(b"version: 1\n# Gr\xc3\xb6\xdfe\n")
    (tmp_path / "b.yml").mkdir()
    (tmp_path / "c.yml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "d.yaml").write_text(FULL)
    (tmp_path / "e.yml").write_text(" " * 1_000_001)
    os.mkfifo(tmp_path / "f.yml")
    (tmp_path / "g.yml").write_text("version: 2\nrules: [{name: r, notify: [unknown-but-perhaps-in-a-yml]}]\n")
    with pytest.raises(FileErrors) as raised:
        load_rules(tmp_path, {})
    assert str(raised.value).replace(f"{tmp_path}/", "").splitlines() == [
        "a.yml:2:6: this is not UTF-8 text; save the file as UTF-8",
        "b.yml: this is not a file of at most 1,000,000 bytes",
        "c.yml: this is not a file of at most 1,000,000 bytes",
        "d.yaml: rules are read from *.yml only; rename it to d.yml",
        "e.yml: this is not a file of at most 1,000,000 bytes",
        "f.yml: this is not a file of at most 1,000,000 bytes",
        'g.yml:1:10: "version" takes the number 1; got the number 2',
        'g.yml:2:9: "levels" is missing: the levels, least severe first',
        'g.yml:2:9: "sensors" is missing: which sensors and metric the rule applies to',
    ]


def test_single_file_is_read_when_the_path_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "one.yml"
    file.write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    assert load_rules(file, ENVIRON) == parse_rules({"one.yml": FULL}, ENVIRON)


# Several files


def test_names_are_unique_over_all_files_and_both_places_are_named() -> None:
    channel = 'channels: {ops: {type: slack, webhook_url: "${SLACK_WEBHOOK_URL}"}}\n'
    body = "levels: {warning: {above: 8}}"
    assert problems({"b.yml": rule(body) + channel, "a.yml": rule(body) + channel}) == [
        'b.yml:3:5: the rule "r" is defined twice, first at a.yml:3:5; choose another name',
        'b.yml:6:12: the channel "ops" is defined twice, first at a.yml:6:12; choose another name',
    ]


def test_channels_and_rules_are_found_in_other_files() -> None:
    rules = rule("levels: {warning: {above: 8}}\nnotify: [ops]\ninhibited_by: [{rule: other, same: []}]")
    channels = 'version: 1\nchannels: {ops: {type: slack, webhook_url: "${SLACK_WEBHOOK_URL}"}}\n'
    other = rule("levels: {warning: {above: 8}}", name="other")
    read = parse_rules({"a.yml": rules, "b.yml": channels, "c.yml": other}, ENVIRON)
    assert [rule.name for rule in read.rules] == ["r", "other"]


def test_defaults_hold_for_their_own_file_only() -> None:
    body = "levels: {warning: {above: 8}}"
    first = rule(body) + "defaults: {remind_every: never, max_gap: 5m, no_data: {after: 10m}}\n"
    second = rule(f"{body}\nno_data: {{then: clear}}", name="s") + "defaults: {no_data: {after: 20m}}\n"
    (r, s) = parse_rules({"a.yml": first, "b.yml": second}, {}).rules
    assert (r.remind_every_us, r.terms.max_gap_us) == (None, 300_000_000)
    assert (s.remind_every_us, s.terms.max_gap_us) == (14_400_000_000, None)
    assert r.terms.no_data is not None
    assert (r.terms.no_data.after_us, r.terms.no_data.then) == (600_000_000, "alert")
    assert s.terms.no_data is not None
    assert (s.terms.no_data.after_us, s.terms.no_data.then) == (1_200_000_000, "clear")


def test_unknown_names_are_not_reported_when_a_file_is_not_yaml() -> None:
    user = rule("levels: {warning: {above: 8}}\nnotify: [ops]\ninhibited_by: [{rule: other, same: []}]")
    assert problems({"a.yml": user, "b.yml": "version: 1\n\tchannels:"}) == [
        (
            "b.yml:2:1: this is not YAML: found character '\\t' that cannot start any token "
            "(while scanning for the next token); indent with spaces, not tabs"
        )
    ]


# Mistakes


@pytest.mark.parametrize(("text", "said"), mistakes("files"))
def test_file_is_refused_with_a_helpful_message(text: str, said: list[str]) -> None:
    assert problems(text) == said


@pytest.mark.parametrize(("body", "said"), mistakes("rules"))
def test_rule_is_refused_with_a_helpful_message(body: str, said: list[str]) -> None:
    assert problems(rule(body)) == said


@pytest.mark.parametrize(("channel", "said"), mistakes("channels"))
def test_channel_is_refused_with_a_helpful_message(channel: str, said: list[str]) -> None:
    assert problems(f"version: 1\nchannels: {{ops: {channel}}}\n", environ={"CHANNEL_U": "x", "CHANNEL_B": "x"}) == said


# Valid rules


def test_levels_may_share_a_threshold() -> None:
    (read,) = parse_rules({"x.yml": rule("levels: {warning: {above: 8}, critical: {above: 8, for: 1h}}")}, {}).rules
    assert [level.for_us for level in read.terms.levels] == [0, 3_600_000_000]


def test_override_keeps_the_settings_of_its_rule_that_it_does_not_change() -> None:
    body = """
levels: {warning: {above: 8, for: 10m, notify: []}, critical: {above: 12, for: 2m}}
clear: {below: 7, for: 5m}
late_data: {accept: 48h, notify: never}
overrides:
  - sensors: {id: a}
    levels: {warning: {below: 3}, critical: {below: 1, for: 0}, disaster: {below: 0}}
    clear: {above: 4}
    late_data: {live: 1h}
    value: avg 5m
"""
    (read,) = parse_rules({"x.yml": rule(body)}, {}).rules
    terms = read.overrides[0].terms
    assert [(level.name, level.for_us, level.notify) for level in terms.levels] == [
        ("warning", 600_000_000, ()),
        ("critical", 0, None),
        ("disaster", 0, None),
    ]
    assert terms.clear.for_us == 300_000_000
    late = terms.late_data
    assert (late.accept_us, late.live_us, late.notify) == (172_800_000_000, 3_600_000_000, "never")
    assert (terms.value.kind, terms.value.window_us) == ("avg", 300_000_000)


def test_clear_may_have_a_duration_only() -> None:
    (read,) = parse_rules({"x.yml": rule("levels: {warning: {above: 8}}\nclear: {for: 5m}")}, {}).rules
    assert (read.terms.clear.condition, read.terms.clear.for_us) == (None, 300_000_000)


def test_cycle_of_inhibitions_is_refused_once() -> None:
    files = {
        f"{name}.yml": rule(f"levels: {{info: {{above: 8}}}}\ninhibited_by: [{{rule: {by}, same: []}}]", name=name)
        for name, by in (("a", "b"), ("b", "c"), ("c", "b"))
    }
    assert problems(files) == ['c.yml:6:27: "inhibited_by" forms a cycle: b, inhibited by c, inhibited by b']


def test_default_inhibition_does_not_apply_to_the_rule_that_it_names() -> None:
    text = rule("levels: {info: {above: 8}}", name="power") + (
        "  - {name: other, sensors: {metric: m}, levels: {info: {above: 8}}}\n"
        "defaults: {inhibited_by: [{rule: power, same: [site]}]}\n"
    )
    power, other = parse_rules({"x.yml": text}, {}).rules
    assert power.inhibited_by == ()
    assert [inhibition.rule for inhibition in other.inhibited_by] == ["power"]


def test_built_in_rule_cannot_be_redefined() -> None:
    assert problems(rule("levels: {info: {above: 8}}", name="gateway-offline")) == [
        '3:5: the rule "gateway-offline" is built in; choose another name'
    ]


def test_rule_notifies_every_channel_without_notify_and_none_with_an_empty_list() -> None:
    text = rule("levels: {info: {above: 8}, error: {above: 9, notify: []}}") + (
        "  - {name: quiet, sensors: {metric: m}, levels: {info: {above: 8}}, notify: []}\n"
        'channels: {b: {type: slack, webhook_url: "${CHANNEL_U}"}, a: {type: slack, webhook_url: "${CHANNEL_U}"}}\n'
    )
    loud, quiet = parse_rules({"x.yml": text}, {"CHANNEL_U": "x"}).rules
    assert loud.terms.notified_at("info", {}) == ("b", "a")
    assert loud.terms.notified_at("error", {}) == ()
    assert quiet.terms.notified_at("info", {}) == ()


# Channels


def test_channel_accepts_a_number_as_text() -> None:
    text = 'version: 1\nchannels: {ops: {type: telegram, bot_token: "${CHANNEL_T}", chat_id: -1001234567890}}\n'
    (channel,) = parse_rules({"x.yml": text}, {"CHANNEL_T": "x"}).channels
    assert channel.fields == {"bot_token": "${CHANNEL_T}", "chat_id": "-1001234567890"}


def test_channel_check_gets_the_secrets_and_its_problems_are_reported_at_their_place() -> None:
    def check(type_name: str, fields: Any) -> list[tuple[str | None, str]]:
        assert (type_name, fields) == ("slack", {"webhook_url": "https://hooks.slack.com/x"})
        return [("webhook_url", "webhook_url is odd"), (None, "so is the rest")]

    text = 'version: 1\nchannels: {ops: {type: slack, webhook_url: "${SLACK_WEBHOOK_URL}"}}\n'
    assert problems(text, channel_check=check) == ["2:18: so is the rest", "2:31: webhook_url is odd"]


# Arbitrary text


def is_valid_or_has_placed_problems(text: str) -> bool:
    try:
        parse_rules({"x.yml": text}, {"CHANNEL_HOOK": "x"})
    except FileErrors as errors:
        return errors.problems != () and all(one.line >= 1 and one.column >= 1 for one in errors.problems)
    return True


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=80), SYNTAX))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert is_valid_or_has_placed_problems(text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rule_documents, st.data())
def test_any_damage_to_valid_rules_is_read_or_refused(document: dict[str, Any], data: st.DataObject) -> None:
    text = as_yaml(document)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    assert is_valid_or_has_placed_problems(text[:start] + data.draw(SYNTAX) + text[end:])


_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rule_documents, st.data())
def test_any_value_in_any_place_is_read_or_refused(document: dict[str, Any], data: st.DataObject) -> None:
    damaged = copy.deepcopy(document)
    place: Any = damaged
    for _ in range(data.draw(st.integers(0, 5))):
        inner = [key for key in _keys(place) if isinstance(place[key], dict | list) and place[key]]
        if not inner:
            break
        place = place[data.draw(st.sampled_from(inner))]
    place[data.draw(st.sampled_from(_keys(place)))] = data.draw(_values)
    assert is_valid_or_has_placed_problems(as_yaml(damaged))


def _keys(place: Any) -> list[Any]:
    return list(place) if isinstance(place, dict) else list(range(len(place)))


CHANNELS = """\
version: 1
channels:
  a: {type: slack, webhook_url: "${SLACK_WEBHOOK_URL}"}
  b: {type: webhook, url: "${CHANNEL_HOOK}"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "channels.yml").write_text(CHANNELS)
    return tmp_path


def test_secrets_are_read_from_the_environment_and_from_the_env_file(folder: Path) -> None:
    env_file = folder / "environment"
    env_file.write_text("CHANNEL_HOOK=https://pager.example/alerts\nSLACK_WEBHOOK_URL=https://hooks.slack.com/other\n")
    settings = Settings.from_environment({"SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/x"}, env_file)
    assert settings.channel_variables == {
        "CHANNEL_HOOK": "https://pager.example/alerts",
        "SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/x",
    }
    assert [channel.name for channel in load_checked(folder, settings).channels] == ["a", "b"]


def test_channel_settings_are_refused_at_their_place_when_invalid(folder: Path) -> None:
    settings = Settings(channel_variables={"SLACK_WEBHOOK_URL": "https://relay.example/x", "CHANNEL_HOOK": "pager"})
    with pytest.raises(FileErrors) as raised:
        load_checked(folder, settings)
    assert str(raised.value).replace(f"{folder}/", "").splitlines() == [
        "channels.yml:3:20: webhook_url must begin with https://hooks.slack.com/",
        "channels.yml:4:22: url must be an http:// or https:// address",
    ]
    relayed = Settings(
        slack_webhook_prefix="https://relay.example/",
        channel_variables={"SLACK_WEBHOOK_URL": "https://relay.example/x", "CHANNEL_HOOK": "http://pager"},
    )
    assert len(load_checked(folder, relayed).channels) == 2


def test_secrets_may_be_missing_when_nothing_is_sent(folder: Path) -> None:
    with pytest.raises(FileErrors, match="the environment variable CHANNEL_HOOK is not set"):
        load_checked(folder, Settings())
    assert len(load_unsent(folder).channels) == 2


def test_settings_are_shown_without_their_values() -> None:
    settings = Settings(api_key="hidden", channel_variables={"CHANNEL_TOKEN": "hidden"})
    assert (repr(settings), f"{settings}") == ("<Settings>", "<Settings>")


# A folder of channels


WARM = rule("levels: {warning: {above: 8}}\nnotify: [a]")


@pytest.fixture
def rules_apart(folder: Path) -> Settings:
    """Return settings with rules in one folder and channels in another."""
    (folder / "rules").mkdir()
    (folder / "rules" / "rules.yml").write_text(WARM)
    (folder / "channels").mkdir()
    (folder / "channels.yml").rename(folder / "channels" / "channels.yml")
    variables = {"SLACK_WEBHOOK_URL": "https://hooks.slack.com/x", "CHANNEL_HOOK": "http://pager"}
    return Settings(rules_dir=folder / "rules", channels_dir=folder / "channels", channel_variables=variables)


def refused(path: Path, settings: Settings, folder: Path) -> list[str]:
    with pytest.raises(FileErrors) as raised:
        load_checked(path, settings)
    return str(raised.value).replace(f"{folder}/", "").splitlines()


def test_channels_are_read_from_their_own_folder_when_there_is_one(rules_apart: Settings, folder: Path) -> None:
    read = load_checked(rules_apart.rules_dir, rules_apart)
    assert ([channel.name for channel in read.channels], read.rules[0].terms.notify) == (["a", "b"], ("a",))
    assert load_unsent(rules_apart.rules_dir, rules_apart.channels_dir) == read
    assert len(load_checked(rules_apart.rules_dir / "rules.yml", rules_apart).rules) == 1


@pytest.mark.parametrize("path", ["channels", "channels/channels.yml"])
def test_folder_of_channels_can_be_checked_by_itself(path: str, rules_apart: Settings, folder: Path) -> None:
    read = load_checked(folder / path, rules_apart)
    assert (len(read.rules), len(read.channels)) == (0, 2)


def test_channel_is_refused_in_a_rule_file_when_channels_have_their_own_folder(
    rules_apart: Settings, folder: Path
) -> None:
    stealing = 'version: 1\nchannels:\n  spy: {type: webhook, url: "http://spy/${CHANNEL_HOOK}"}\n'
    (folder / "rules" / "more.yml").write_text(stealing)
    assert refused(rules_apart.rules_dir, rules_apart, folder) == [
        'rules/more.yml:2:1: "channels": with CHANNELS_DIR, channels are in that folder alone; move them there'
    ]


@pytest.mark.parametrize("section", ["rules: []", "defaults: {}"])
def test_rules_are_refused_in_the_folder_of_channels(section: str, rules_apart: Settings, folder: Path) -> None:
    (folder / "channels" / "more.yml").write_text(f"version: 1\n{section}\n")
    name = section.partition(":")[0]
    assert refused(rules_apart.rules_dir, rules_apart, folder) == [
        f'channels/more.yml:2:1: "{name}": CHANNELS_DIR is for channels alone; move this to RULES_DIR'
    ]


def test_rules_are_refused_when_the_folder_of_channels_is_empty_or_missing(rules_apart: Settings, folder: Path) -> None:
    (folder / "channels" / "channels.yml").unlink()
    said = "channels: there is no *.yml in this folder of channels; is it mounted?"
    assert refused(rules_apart.rules_dir, rules_apart, folder) == [said]
    (folder / "channels").rmdir()
    said = "channels: this folder of channels cannot be read: No such file or directory"
    assert refused(rules_apart.rules_dir, rules_apart, folder) == [said]


def test_unknown_channel_is_reported_when_channels_have_their_own_folder(rules_apart: Settings, folder: Path) -> None:
    (folder / "rules" / "rules.yml").write_text(WARM.replace("[a]", "[c]"))
    (said,) = refused(rules_apart.rules_dir, rules_apart, folder)
    assert said.endswith('there is no channel "c" (there are: a or b)')


def test_link_out_of_the_folder_of_rules_is_not_followed_when_channels_have_their_own(
    rules_apart: Settings, folder: Path
) -> None:
    (folder / "secrets").write_text("s3cret")
    (folder / "rules" / "link.yml").symlink_to(folder / "secrets")
    # As Kubernetes mounts a ConfigMap.
    (folder / "rules" / "..data").mkdir()
    (folder / "rules" / "rules.yml").rename(folder / "rules" / "..data" / "rules.yml")
    (folder / "rules" / "rules.yml").symlink_to("..data/rules.yml")
    assert refused(rules_apart.rules_dir, rules_apart, folder) == [
        "rules/link.yml: this link leads out of the folder, which is not allowed with CHANNELS_DIR"
    ]
    (folder / "rules" / "link.yml").unlink()
    assert len(load_checked(rules_apart.rules_dir, rules_apart).rules) == 1


# Limits


def test_problems_are_cut_when_there_are_very_many() -> None:
    said = problems(f"version: 1\nrules: [{'a,' * 10_000}]")
    assert len(said) == 501
    assert said[-1] == "2:1009: there are more problems than these 500; correct them first"


def test_copies_of_defaults_count_when_they_make_the_rules_large() -> None:
    rules = "".join(
        f"  - {{name: r{n}, sensors: {{metric: t}}, levels: {{warning: {{above: 1}}}}}}\n" for n in range(250)
    )
    text = f"version: 1\ndefaults: {{message: {'x' * 100_000}}}\nrules:\n{rules}"
    (said,) = problems(text)
    assert "up to here the rules take more than 20,000,000 bytes, where each rule and each override" in said


def test_copies_of_a_rule_count_when_its_overrides_make_it_large() -> None:
    overrides = "".join(f"  - {{sensors: {{id: s{n}}}, levels: {{warning: {{above: 2}}}}}}\n" for n in range(250))
    body = f"levels: {{warning: {{above: 1}}}}\nmessage: {'x' * 100_000}\noverrides:\n{overrides}"
    (said,) = problems(rule(body))
    assert "up to here the rules take more than 20,000,000 bytes" in said


def test_channels_are_refused_when_there_are_more_than_200() -> None:
    def channels(count: int) -> str:
        entries = "".join(f'  c{n}: {{type: slack, webhook_url: "${{CHANNEL_U}}"}}\n' for n in range(count))
        return f"version: 1\nchannels:\n{entries}"

    assert len(parse_rules({"x.yml": channels(200)}, {"CHANNEL_U": "x"}).channels) == 200
    assert problems(channels(201), environ={"CHANNEL_U": "x"}) == ["1:1: there are 201 channels by here; at most 200"]


def test_folder_is_refused_when_its_files_are_too_large_together(tmp_path: Path) -> None:
    for number in range(11):
        (tmp_path / f"{number}.yml").write_text(f"version: 1\n# {'x' * 950_000}\n")
    with pytest.raises(FileErrors) as raised:
        load_rules(tmp_path, {})
    assert str(raised.value) == f"{tmp_path}: the files in this folder have more than 10,000,000 characters"


def test_values_of_all_files_count_together() -> None:
    values = f"version: 1\nx: [{'1,' * 70_000}]\n"
    said = problems({"a.yml": values, "b.yml": values, "c.yml": values, "d.yml": "version: 1\ny: 1\n"})
    assert said[-2].startswith("c.yml:2:119975: here the files have more than 200,000 values")
    assert said[-1].startswith('d.yml:2:1: unknown key "y"')


def test_rules_may_inhibit_one_another_in_a_long_row() -> None:
    def row(last: str) -> str:
        return "version: 1\nrules:\n" + "".join(
            f"  - {{name: r{n}, sensors: {{metric: t}}, levels: {{warning: {{above: 1}}}}, "
            f"inhibited_by: [{{rule: {f'r{n + 1}' if n < 1_999 else last}, same: [sensor]}}]}}\n"
            for n in range(2_000)
        )

    assert len(parse_rules({"x.yml": row("gateway-offline")}, {}).rules) == 2_000
    (said,) = problems(row("r0"))
    assert said.endswith(
        '"inhibited_by" forms a cycle: r0, inhibited by r1, inhibited by r2, inhibited by r3, inhibited by r4, '
        "inhibited by r5, inhibited by r6, inhibited by r7, inhibited by r8, inhibited by r9, inhibited by …, "
        "inhibited by r1996, inhibited by r1997, inhibited by r1998, inhibited by r1999, inhibited by r0"
    )


def test_names_are_cut_when_there_are_very_many() -> None:
    rules = "".join(
        f"  - {{name: rule-{n}, sensors: {{metric: t}}, levels: {{warning: {{above: 1}}}}}}\n" for n in range(1_500)
    )
    wrong = "    inhibited_by: [{rule: rule-x, same: [sensor]}]\n"
    last = f"  - name: z\n    sensors: {{metric: t}}\n    levels: {{warning: {{above: 1}}}}\n{wrong}"
    text = f"version: 1\nrules:\n{rules}{last}"
    (said,) = problems(text)
    assert said.endswith("rule-48, rule-49 or 1453 others)")


def test_pattern_of_a_sensor_is_refused_when_no_name_is_so_long() -> None:
    def selecting(length: int) -> str:
        return rule("levels: {warning: {above: 8}}").replace("metric: temperature", f"id: {'x' * length}")

    assert parse_rules({"x.yml": selecting(200)}, {}).rules[0].sensors.id == "x" * 200
    (said,) = problems(selecting(201))
    assert said.endswith(f'"id": "{"x" * 40}…" has 201 characters; a sensor\'s name has at most 200')


def test_missing_variable_of_the_watchdog_is_told_with_all_other_problems() -> None:
    text = 'version: 1\nwatchdog: {url: "${CHANNEL_DOG}"}\nrules:\n'
    text += '  - {name: x, sensors: {id: "*"}, levels: {info: {above: x}}}\n'
    assert problems(text) == [
        '2:12: "url": the environment variable CHANNEL_DOG is not set, or empty',
        '4:58: "above" takes a number, such as 8.0; got the text "x"',
    ]


def test_rule_whose_kind_is_misspelt_is_not_said_to_be_unknown() -> None:
    text = 'version: 1\nrules:\n  - {name: away, kind: gateway-offline}\n  - name: x\n    sensors: {id: "*"}\n'
    text += "    levels: {info: {above: 1}}\n    inhibited_by: [{rule: away, same: []}]\n"
    (said,) = problems(text)
    assert said.startswith('3:24: "kind": "gateway-offline" is not known; did you mean "gateway_offline"?')


def test_window_without_tz_is_in_the_time_zone_of_its_rule() -> None:
    text = """version: 1
defaults: {timezone: Europe/Berlin, mute: [{dates: [2026-12-24]}]}
rules:
  - {name: a, sensors: {id: "*"}, levels: {info: {above: 1}}, timezone: Asia/Tokyo, mute: [{days: [sun]}]}
  - {name: b, sensors: {id: "*"}, levels: {info: {above: 1}}, mute: [{days: [sun]}, {days: [mon], tz: UTC}]}
  - {name: c, sensors: {id: "*"}, levels: {info: {above: 1}}}
"""
    rules = parse_rules({"x.yml": text}, {}).rules
    assert [[window.tz for window in rule.terms.mute] for rule in rules] == [
        ["Asia/Tokyo"],
        ["Europe/Berlin", "UTC"],
        ["Europe/Berlin"],
    ]
