"""The simulated sites: each has a gateway, and sensors of several kinds with realistic values."""

from collections.abc import Iterator

import msgspec

from app.clock import HOUR_US, MINUTE_US
from app.model import MetricName, SensorName, Tags
from app.simulate.world.chance import fraction, key_of
from app.simulate.world.devices import Course
from app.simulate.world.signals import Excursion, Signal, SignalShape

SITES = ("harbour", "bakery", "dairy", "clinic", "museum", "brewery", "depot", "school")
#: The units of all metrics, sent with each upload.
UNITS = {"temperature": "°C", "humidity": "%", "pressure": "hPa", "wind": "m/s", "water": "l", "level": "%"}

_PRESSURE = SignalShape(
    mean=1013,
    daily_swing=0.3,
    wander=0.5,
    noise=0.05,
    digits=2,
    excursion=Excursion(
        "a storm comes up",
        change=-9,
        every_us=16 * HOUR_US,
        rise_us=150 * MINUTE_US,
        hold_us=30 * MINUTE_US,
        fall_us=150 * MINUTE_US,
        demo_offset_us=-55 * MINUTE_US,
    ),
)


class SensorKind(msgspec.Struct, frozen=True):
    """A kind of sensor: the room that it is in, and the metrics that it measures."""

    name: str
    room: str
    shapes: dict[MetricName, SignalShape]


KINDS = (
    SensorKind(
        "freezer",
        "cold store",
        {
            "temperature": SignalShape(
                mean=-20,
                daily_swing=0.3,
                wander=0.5,
                noise=0.1,
                digits=2,
                excursion=Excursion(
                    "a freezer's door was left open",
                    change=13,
                    every_us=3 * HOUR_US,
                    rise_us=5 * MINUTE_US,
                    hold_us=12 * MINUTE_US,
                    fall_us=15 * MINUTE_US,
                    demo_offset_us=-8 * MINUTE_US,
                ),
            )
        },
    ),
    SensorKind(
        "server-room",
        "server room",
        {
            "temperature": SignalShape(
                mean=24,
                daily_swing=0.4,
                wander=0.5,
                noise=0.1,
                digits=2,
                excursion=Excursion(
                    "the cooling of a server room failed",
                    change=21,
                    every_us=5 * HOUR_US,
                    rise_us=4 * MINUTE_US,
                    hold_us=12 * MINUTE_US,
                    fall_us=12 * MINUTE_US,
                    demo_offset_us=MINUTE_US,
                ),
            ),
            "humidity": SignalShape(mean=44, daily_swing=-1, wander=1.5, noise=0.3, digits=1),
        },
    ),
    SensorKind(
        "roof",
        "outdoors",
        {
            "temperature": SignalShape(mean=19, daily_swing=4, wander=0.6, noise=0.1, digits=2),
            "humidity": SignalShape(mean=50, daily_swing=-7, wander=3, noise=0.4, digits=1),
            "pressure": _PRESSURE,
        },
    ),
    SensorKind(
        "office",
        "office",
        {
            "temperature": SignalShape(mean=21.5, daily_swing=1.2, wander=0.4, noise=0.08, digits=2),
            "humidity": SignalShape(
                mean=46,
                daily_swing=-2,
                wander=2,
                noise=0.3,
                digits=1,
                excursion=Excursion(
                    "a humidifier does not stop",
                    change=36,
                    every_us=7 * HOUR_US,
                    rise_us=5 * MINUTE_US,
                    hold_us=30 * MINUTE_US,
                    fall_us=20 * MINUTE_US,
                    demo_offset_us=-14 * MINUTE_US,
                ),
            ),
            "pressure": _PRESSURE,
        },
    ),
    SensorKind(
        "cellar",
        "cellar",
        {
            "temperature": SignalShape(mean=15, daily_swing=0.2, wander=0.3, noise=0.05, digits=2),
            "humidity": SignalShape(
                mean=56,
                daily_swing=-1,
                wander=1.5,
                noise=0.3,
                digits=1,
                excursion=Excursion(
                    "water is in the cellar",
                    change=38,
                    every_us=11 * HOUR_US,
                    rise_us=10 * MINUTE_US,
                    hold_us=40 * MINUTE_US,
                    fall_us=90 * MINUTE_US,
                    demo_offset_us=8 * MINUTE_US,
                ),
            ),
        },
    ),
)


class SimulatedSensor(msgspec.Struct, frozen=True):
    """A sensor of one gateway; it measures once in each interval, at `offset`, which is a fraction of the interval."""

    name: SensorName
    tags: Tags
    signals: dict[MetricName, Course]
    offset: float
    #: Whether it sends a value only when that differs from the one before.
    reports_changes: bool = False

    def measure(self, time_us: int) -> dict[MetricName, float]:
        """Return the values of all metrics at a time, in microseconds since 1970."""
        return {metric: signal.value(time_us) for metric, signal in self.signals.items()}

    def list_excursions(self, time_us: int) -> list[str]:
        """Return the descriptions of the excursions that have begun and do not end yet at a time."""
        return [what for signal in self.signals.values() if (what := signal.excursion_at(time_us)) is not None]


def gateway_name(number: int) -> str:
    """Return the name of gateway `number`, counted from 0."""
    return f"gw-{_site(number)}"


def list_sensors(seed: int, gateway_number: int, count: int, demo_start_us: int | None = None) -> list[SimulatedSensor]:
    """Return the sensors of one gateway; in a demo, the excursions of the first gateway begin near the demo's start."""
    return list(_each_sensor(seed, gateway_number, count, demo_start_us))


def _each_sensor(seed: int, gateway_number: int, count: int, demo_start_us: int | None) -> Iterator[SimulatedSensor]:
    site = _site(gateway_number)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        round_number = number // len(KINDS) + 1
        name = f"{kind.name}-{site}" if round_number == 1 else f"{kind.name}-{site}-{round_number}"
        signals: dict[MetricName, Course] = {
            metric: _signal(shape, seed, name, metric, demo_start_us, is_first=gateway_number == 0)
            for metric, shape in kind.shapes.items()
        }
        tags = {"site": site, "room": kind.room if round_number == 1 else f"{kind.room} {round_number}"}
        yield SimulatedSensor(name, tags, signals, fraction(key_of(seed, name, "offset")))


def _signal(
    shape: SignalShape, seed: int, sensor: str, metric: str, demo_start_us: int | None, *, is_first: bool
) -> Signal:
    """Return the signal of one metric: all pressures follow the same weather, every other metric its own course."""
    if metric == "pressure":
        return Signal(shape, seed, sensor, metric, "weather", demo_start_us)
    if is_first:
        return Signal(shape, seed, sensor, metric, sensor, demo_start_us)
    return Signal(shape, seed, sensor, metric, sensor, None, demo_start_us)


def _site(number: int) -> str:
    name = SITES[number % len(SITES)]
    round_number = number // len(SITES) + 1
    return name if round_number == 1 else f"{name}-{round_number}"
