from pathlib import Path

import pytest

from app.mqtt.model import MqttBroker
from app.mqtt.plan.files import load_plan, parse_plan
from app.yaml_files.problems import FileErrors

EXAMPLES = Path(__file__).parents[3] / "examples" / "mqtt"


def problems(text: str) -> list[str]:
    with pytest.raises(FileErrors) as raised:
        parse_plan(text, "mqtt.yml")
    return [str(problem).removeprefix("mqtt.yml:") for problem in raised.value.problems]


def problems_of(topic: str) -> list[str]:
    """Return the problems of a topic, which is in line 3 from column 10 on."""
    return problems(f"version: 1\nbroker: {{address: mqtt://b}}\ntopics: [{topic}]\n")


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yml")), ids=lambda file: file.name)
def test_shipped_examples_can_be_used(file: Path) -> None:
    assert load_plan(file).broker == MqttBroker(host="localhost", port=1883)


def test_broker_is_read_with_its_files_beside_this_one(tmp_path: Path) -> None:
    file = tmp_path / "mqtt.yml"
    file.write_text(
        """
version: 1
broker:
  address: mqtts://broker.example
  client_id: barn
  protocol: 3.1.1
  session: 36h
  in_flight: 20
  ca: ca.pem
  certificate: /etc/bridge.pem
  key: bridge.key
topics: [{topic: "{sensor}"}]
"""
    )
    assert load_plan(file).broker == MqttBroker(
        host="broker.example",
        port=8883,
        has_tls=True,
        client_id="barn",
        protocol="3.1.1",
        session_s=129_600,
        in_flight=20,
        ca=tmp_path / "ca.pem",
        certificate=Path("/etc/bridge.pem"),
        key=tmp_path / "bridge.key",
    )


def test_what_is_ignored_or_covered_is_not_subscribed_to() -> None:
    topics = (
        '{topic: "a/b", payload: ignore}, {topic: "a/{sensor}"}, {topic: "x/#", payload: ignore}, {topic: "c/{sensor}"}'
    )
    plan = parse_plan(f"version: 1\nbroker: {{address: mqtt://b}}\ntopics: [{topics}]\n", "mqtt.yml")
    assert plan.filters == ("a/+", "c/+")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["1:1: this file takes a mapping, such as {version: 1, broker: {…}, topics: […]}; got nothing"]),
        ("version: 1\n\ttopics: []", ["2:1: this is not YAML: found character '\\t' that cannot start any token"]),
        (
            "version: 2\nbrokr: {}",
            [
                '1:1: "broker" is missing: the broker',
                '1:1: "topics" is missing: the topics',
                '1:10: "version" takes the number 1; got the number 2',
                '2:1: unknown key "brokr"; did you mean "broker"? (accepted: version, broker, gateway or topics)',
            ],
        ),
        (
            "version: 1\nbroker: {address: b}\ntopics: []",
            [
                '2:19: "address": "b" is not the address of a broker; write mqtt://HOST:1883, or mqtts:// for TLS',
                '3:9: "topics" takes a list of topics; got an empty list',
            ],
        ),
        (
            "version: 1\nbroker: {address: 'mqtt://me:secret@b', in_flight: 0, protocol: 4}\ntopics: [{topic: '+'}]",
            [
                '2:19: "address": a file holds no secrets; set MQTT_USERNAME and MQTT_PASSWORD in the environment',
                '2:52: "in_flight": "0" is not a whole number from 1 to 65535',
                '2:65: "protocol": "4" is not known (accepted: 5 or 3.1.1)',
                "3:10: which sensor?",
            ],
        ),
    ],
)
def test_file_is_refused_with_the_place_and_what_is_right(text: str, said: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(said)
    assert all(problem.startswith(beginning) for problem, beginning in zip(found, said, strict=True)), found


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ("{}", '3:10: "topic" is missing: the topics that it takes; the first topic of the file that matches is used'),
        ("{topc: a}", '3:10: "topic" is missing: '),
        ("{topic: tele/+x}", '3:18: "topic": "+" must be a level by itself, as in "a/+"; got "+x"'),
        ("{topic: 7}", '3:18: "topic" takes a topic in quotes, such as "tele/{sensor}/SENSOR"; got the number 7'),
        (
            '{topic: "a/{device}"}',
            '3:10: which sensor? Name a level of the topic {sensor}, or give its name by "sensor"',
        ),
        (
            '{topic: "a/{device}", sensor: "{devise}"}',
            '3:32: "sensor": the topic has no level {devise}; did you mean "device"? (it has: device)',
        ),
        (
            '{topic: "a/{sensor}", payload: plain}',
            '3:10: which metric? Name a level of the topic {metric}, or give its name by "metric"',
        ),
        (
            '{topic: "a/{sensor}", payload: text}',
            '3:41: "payload": "text" is not known (accepted: json, plain or ignore)',
        ),
        (
            '{topic: "a/{sensor}/{metric}", payload: plain, time: at}',
            '3:57: "time" is for JSON; a plain payload is one number',
        ),
        (
            '{topic: "a/{sensor}", timezone: Europe/Berlin}',
            '3:32: "timezone" is the zone of the times in "time", which is missing',
        ),
        (
            '{topic: "a/{sensor}", time: at, timezone: Europe/Berln}',
            '3:52: "timezone": there is no time zone "Europe/Berln"; did you mean "Europe/Berlin"?',
        ),
        ('{topic: "a/{sensor}", words: {ON: yes}}', '3:44: "ON" takes a number, such as 8.0; got the text "yes"'),
        (
            '{topic: "a/{sensor}"}, {topic: "a/b", sensor: b}',
            '3:34: this is never used: "a/{sensor}" before it takes the same topics',
        ),
        (
            '{topic: "a/{sensor}/c"}, {topic: "a/b/+", sensor: b}',
            '3:36: some topics match both "a/b/+" and "a/{sensor}/c", and a broker may deliver them twice; write one',
        ),
    ],
)
def test_topic_is_refused_with_the_place_and_what_is_right(topic: str, said: str) -> None:
    assert any(problem.startswith(said) for problem in problems_of(topic)), problems_of(topic)


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileErrors, match=r"none\.yml: this is not a file of at most"):
        load_plan(tmp_path / "none.yml")
