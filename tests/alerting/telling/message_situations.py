"""Situations whose messages are compared with what `message_texts/` holds, a file a channel.

After a change that is meant, `python -m tests.alerting.telling.message_situations` writes the files anew; read the
difference before you commit it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from app.alerting.conditions.outside import Outside
from app.alerting.episodes.revision import Told
from app.alerting.episodes.samples import ValueOf
from app.alerting.rules.model import LevelRule, NoData, Selector
from app.alerting.telling.decisions import Action, decide, reminders
from app.alerting.telling.links import Addresses
from app.alerting.telling.messages import write_message
from app.alerting.telling.situation import Situation
from app.clock import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from app.notify.channels import find_channels
from app.notify.message import Message
from tests.alerting.situations import (
    FIRING,
    NOON_US,
    RESOLVED,
    ended,
    episode,
    gateway_offline,
    no_data_alert,
    no_data_mark,
    retracted,
    rule,
    situation,
)

FOLDER = Path(__file__).with_name("message_texts")
#: Of more entries of a webhook, the others are counted in its file.
_SHOWN_ENTRIES = 9
CHANNELS = ("slack", "telegram", "webhook", "email")
_QUAY = '["warm",["quay"]]'
_WARM = rule(unit="°C", timezone="Europe/Berlin")
_ADDRESSES = Addresses("https://tide.example", None, "UTC")
_RATE = rule(value=ValueOf("rate", 10 * MINUTE_US), sensors=Selector())
_HUMID = rule(levels=[LevelRule("warning", Outside(30, 70.5))], unit="%", sensors=Selector())
_FULL = rule(
    unit="°C",
    runbook="https://wiki.example/cold-room",
    message="{sensor} in {tags.site} <{gateway}>: {value} {unit}, peak {peak}, above {threshold} for {duration}",
)
_CRITICAL = Told("firing", "critical")


class Case:
    """A situation and the present values by id of alert; `only_reminders`: the message reminds of what was told."""

    def __init__(
        self, given: Situation, values: Mapping[int, float | None] | None = None, *, only_reminders: bool = False
    ) -> None:
        self.given, self.values, self.only_reminders = given, values or {}, only_reminders

    def message(self) -> Message:
        """Write the message for the channel `ops`."""
        if self.only_reminders:
            actions: list[Action] = reminders(self.given, "ops", _QUAY)
        else:
            actions = [each for each in decide(self.given).actions if each.channel == "ops"]
        return write_message(self.given, "ops", actions, self.values, _ADDRESSES)


def _flaps(count: int) -> list[Any]:
    """Make episodes of one series that each lasted ten seconds, one every 21 seconds before 11:50."""
    starts = [NOON_US - 10 * MINUTE_US - (count - number) * 21 * SECOND_US for number in range(count)]
    return [
        ended(
            number + 1,
            series_id=1,
            sensor="freezer-1",
            started_us=start,
            fired_us=start,
            first_known_us=start,
            resolved_us=start + 10 * SECOND_US,
            fired_value=8.5,
            peak=8.5 + number / 100,
        )
        for number, start in enumerate(starts)
    ]


def _offline(number: int, **fields: Any) -> Any:
    return gateway_offline(number, gateway=f"gw-{number}", **fields)


_NO_DATA = rule(unit="°C", no_data=NoData(), timezone="Europe/Berlin")
_BACK = no_data_alert(2, series_id=1, sensor="freezer-1", resolved_us=NOON_US)

CASES: dict[str, Callable[[], Case]] = {
    "fires": lambda: Case(situation(episode(fired_value=8.0004, peak=8.0004), rules=[_WARM]), {1: 8.0004}),
    "fires, rises and is lower now": lambda: Case(
        situation(episode(fired_value=8.2, peak=11.75), rules=[_WARM]), {1: 9.4}
    ),
    "fires and is back below the limit, not yet over": lambda: Case(
        situation(episode(fired_value=8.2, peak=9.125), rules=[_WARM]), {1: 7.5}
    ),
    "fires with the rule's own message, runbook and page": lambda: Case(
        situation(episode(fired_value=8.2, peak=9.4), rules=[_FULL]), {1: 9.4}
    ),
    "fires since yesterday": lambda: Case(
        situation(episode(started_us=NOON_US - DAY_US, fired_value=9, peak=9.4), rules=[_WARM]), {1: 9.4}
    ),
    "a rate is compared": lambda: Case(
        situation(episode(unit="hPa", metric="pressure", fired_value=31.25, peak=31.25), rules=[_RATE]), {1: 30.5}
    ),
    "a value outside a range": lambda: Case(
        situation(
            episode(condition="outside", threshold=[30, 70.5], metric="humidity", fired_value=71, peak=29.5),
            rules=[_HUMID],
        ),
        {1: 70.5004},
    ),
    "a counter has many digits": lambda: Case(
        situation(episode(threshold=4294967294, fired_value=4294967295, peak=4294967295), rules=[rule()]),
        {1: 4294967295},
    ),
    "a value is tiny": lambda: Case(
        situation(episode(threshold=1e-6, fired_value=1.25e-5, peak=1.25e-5, unit="A"), rules=[rule()]), {1: 1.25e-5}
    ),
    "the value is not known": lambda: Case(situation(episode(), rules=[_WARM]), {1: None}),
    "a value is held": lambda: Case(
        situation(
            episode(last_us=NOON_US - 65 * MINUTE_US, fired_value=9.4, peak=9.4),
            rules=[rule(unit="°C", timezone="Europe/Berlin", holds=True, max_gap_us=DAY_US)],
        ),
        {1: 9.4},
    ),
    "second metrics are not known": lambda: Case(
        situation(
            episode(fired_value=9.4, peak=9.4, unknown=[("door", NOON_US - 5 * HOUR_US), ("pump", None)]),
            rules=[_WARM],
        ),
        {1: 9.4},
    ),
    "the level rises": lambda: Case(
        situation(
            episode(level="critical", threshold=12, fired_value=8.2, peak=12.5),
            rules=[_WARM],
            told={1: {"ops": FIRING}},
        ),
        {1: 12.5},
    ),
    "ends": lambda: Case(
        situation(ended(minutes_ago=5, fired_value=8.2, peak=9.5), rules=[_WARM], told={1: {"ops": FIRING}}), {1: 6.5}
    ),
    "ends after days, on another day": lambda: Case(
        situation(
            ended(minutes_ago=5, started_us=NOON_US - 50 * HOUR_US, fired_value=8.2, peak=9.5),
            rules=[_WARM],
            told={1: {"ops": FIRING}},
        ),
    ),
    "ends because its rule was removed": lambda: Case(
        situation(ended(reason="rule removed", fired_value=8.2, peak=9), rules=[], told={1: {"ops": FIRING}})
    ),
    "was over when it became known": lambda: Case(
        situation(ended(minutes_ago=5, fired_value=8.2, peak=9.5), rules=[_WARM]), {1: 6.5}
    ),
    "one series flaps 180 times": lambda: Case(situation(*_flaps(180), rules=[_WARM])),
    "one series fires again after hours": lambda: Case(
        situation(
            ended(1, minutes_ago=180, series_id=1, started_us=NOON_US - 4 * HOUR_US, fired_us=NOON_US - 4 * HOUR_US),
            episode(2, series_id=1, sensor="freezer-1", fired_value=9.4, peak=9.4),
            rules=[_WARM],
        ),
        {2: 9.4},
    ),
    "one series flaps and fires": lambda: Case(
        situation(*_flaps(8), episode(9, series_id=1, sensor="freezer-1", peak=9.5), rules=[_WARM]), {9: 9.5}
    ),
    "later readings withdraw it": lambda: Case(situation(retracted(), rules=[_WARM], told={1: {"ops": FIRING}})),
    "later readings make it part of another": lambda: Case(
        situation(retracted(merged_into=2), rules=[_WARM], told={1: {"ops": FIRING}})
    ),
    "later readings withdraw the end that was told": lambda: Case(
        situation(episode(fired_value=8.2, peak=9.4), rules=[_WARM], told={1: {"ops": RESOLVED}}), {1: 9.4}
    ),
    "a reminder": lambda: Case(
        situation(
            episode(fired_value=8.2, peak=9.4),
            rules=[_WARM],
            told={1: {"ops": FIRING}},
            last_sent={("ops", _QUAY): NOON_US - DAY_US},
        ),
        {1: 9.4},
        only_reminders=True,
    ),
    "data are missing": lambda: Case(situation(no_data_alert(last_value=8.4), rules=[_NO_DATA])),
    "data are back and all was fine": lambda: Case(situation(_BACK, rules=[_NO_DATA], told={2: {"ops": FIRING}})),
    "data are back and it still fires": lambda: Case(
        situation(
            episode(fired_value=8.2, peak=9.4), _BACK, rules=[_NO_DATA], told={1: {"ops": FIRING}, 2: {"ops": FIRING}}
        ),
        {2: 9.4},
    ),
    "an alert ends for lack of data": lambda: Case(
        situation(
            episode(received_us=NOON_US - HOUR_US, fired_value=8.2, peak=9.4),
            no_data_mark(2, series=1),
            rules=[_WARM],
            told={1: {"ops": FIRING}},
        )
    ),
    "a gateway is offline": lambda: Case(situation(gateway_offline(), rules=[_NO_DATA])),
    "a gateway uploads, and everything is refused": lambda: Case(
        situation(gateway_offline(refused_for="time_in_future", skew_s=-10_800), rules=[_NO_DATA])
    ),
    "a gateway is back": lambda: Case(
        situation(gateway_offline(resolved_us=NOON_US), rules=[_NO_DATA], told={1: {"ops": Told("firing", "error")}})
    ),
    "closed by hand": lambda: Case(
        situation(
            episode(
                fired_value=8.2,
                peak=9.4,
                closed_us=NOON_US,
                closed_by="ann",
                closed_note="sensor replaced",
                closed_level="warning",
            ),
            rules=[_WARM],
            told={1: {"ops": FIRING}},
        ),
    ),
    "43 alerts at once": lambda: Case(
        situation(
            *(episode(n, level="critical", threshold=12, fired_value=12.5, peak=12.5 + n) for n in range(1, 4)),
            *(episode(n, gateway=f"gw-{n % 2}", fired_value=8.5, peak=9) for n in range(4, 44)),
            rules=[_WARM],
        ),
        {n: 13.0 if n < 4 else 9.0 for n in range(1, 44)},
    ),
    "everything at once": lambda: Case(
        situation(
            ended(1, fired_value=9, peak=9.5),
            retracted(2),
            episode(3, level="error", threshold=10, fired_value=9, peak=10.5),
            episode(4, fired_value=9, peak=9.25),
            episode(5, level="critical", threshold=12, fired_value=13, peak=13),
            ended(6, fired_value=9, peak=9.5),
            episode(7, fired_value=9, peak=9.25),
            retracted(8),
            rules=[_WARM],
            told={
                1: {"ops": FIRING},
                2: {"ops": FIRING},
                3: {"ops": FIRING},
                7: {"ops": RESOLVED},
                8: {"ops": RESOLVED},
            },
        ),
        {3: 10.5, 4: 9.0, 5: 13.0, 7: 9.25},
    ),
}


def text_of(channel: str, message: Message) -> str:
    """Return what the channel sends, as text: Telegram's as it is read, the others' as JSON."""
    rendered = find_channels()[channel].render(message)
    if channel in ("telegram", "email"):
        return "\n".join(f"{name}: {value}" for name, value in rendered.body.items())
    body = dict(rendered.body)
    if channel == "webhook" and len(body["entries"]) > _SHOWN_ENTRIES:
        body["entries"] = [*body["entries"][:_SHOWN_ENTRIES], f"and {len(body['entries']) - _SHOWN_ENTRIES} more"]
    return msgspec.json.format(msgspec.json.encode(body), indent=1).decode()


def texts_of(channel: str) -> str:
    """Return the messages of all situations."""
    return "".join(f"### {name}\n{text_of(channel, make().message())}\n\n" for name, make in CASES.items())


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in CHANNELS:
        (FOLDER / f"{each}.txt").write_text(texts_of(each), encoding="utf-8")
