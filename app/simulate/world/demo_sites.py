"""Sensors and gateways that only the demo has, for the kinds of rules that the usual ones do not cross.

Each crosses one example rule, at another minute of the demo, so that its messages can be read one after another.
"""

from app.clock import HOUR_US, MINUTE_US
from app.simulate.world.behaviour import Behaviour, OfflinePeriods, behaviour_of
from app.simulate.world.chance import fraction, key_of
from app.simulate.world.devices import Course, Door, Meter, Spell, StuckGauge, Tank
from app.simulate.world.signals import Excursion, Signal, SignalShape
from app.simulate.world.sites import SimulatedSensor

#: A gateway whose clock is ten minutes behind, and which has no history.
WRONG_CLOCK = "gw-clinic"
#: It goes offline together with gw-dairy: their alert is one message.
OFFLINE_TOO = "gw-dairy-2"

_WIND = SignalShape(mean=4, daily_swing=0, wander=1.5, noise=0.8, digits=1)
_WARD = SignalShape(mean=21.5, daily_swing=0.4, wander=0.2, noise=0.05, digits=2)
_COLD_ROOM = SignalShape(
    mean=4.1,
    daily_swing=0,
    wander=0.1,
    noise=0.05,
    digits=2,
    excursion=Excursion(
        "the cooling of a cold room failed",
        change=4.5,
        every_us=9 * HOUR_US,
        rise_us=3 * MINUTE_US,
        hold_us=15 * MINUTE_US,
        fall_us=10 * MINUTE_US,
        demo_offset_us=-5 * MINUTE_US,
    ),
)


def demo_behaviours(seed: int, start_us: int) -> dict[str, Behaviour]:
    """Return the gateways that only the demo has."""
    dairy = behaviour_of(seed, 2, start_us).offline
    assert isinstance(dairy, OfflinePeriods)  # noqa: S101 -- every gateway has some
    return {
        OFFLINE_TOO: Behaviour(offline=dairy),
        WRONG_CLOCK: Behaviour(skew_us=-10 * MINUTE_US, has_history=False),
    }


def demo_sensors(seed: int, start_us: int) -> dict[str, list[SimulatedSensor]]:
    """Return the further sensors of the demo by gateway."""

    def at(minutes: float) -> int:
        return start_us + round(minutes * MINUTE_US)

    def signal(shape: SignalShape, name: str, metric: str) -> Signal:
        return Signal(shape, seed, name, metric, name, start_us)

    def sensor(site: str, name: str, room: str, metric: str, course: Course, **more: bool) -> SimulatedSensor:
        tags = {"site": site, "room": room}
        return SimulatedSensor(name, tags, {metric: course}, fraction(key_of(seed, name, "offset")), **more)

    opened = Spell("a door was left open", at(-8), 25 * MINUTE_US, 5 * HOUR_US)
    shut = Spell("a door is open", at(190), 5 * MINUTE_US, 5 * HOUR_US)
    stuck = Spell("a wind gauge is stuck", at(-116), 8 * HOUR_US)
    leak, reset = Spell("water runs", at(-8), 20 * MINUTE_US, 8 * HOUR_US), Spell("", at(3), 0, 6 * HOUR_US)
    filled = Spell("", at(-9) - 81 * 4 * MINUTE_US, 0, 6 * HOUR_US)
    wind = StuckGauge(signal(_WIND, "wind-harbour", "wind"), stuck)
    cold_room = signal(_COLD_ROOM, "cold-room-bakery", "temperature")
    ward = signal(_WARD, "ward-clinic", "temperature")
    return {
        "gw-harbour": [
            sensor("harbour", "door-harbour", "cold store", "door", Door(opened), reports_changes=True),
            sensor("harbour", "wind-harbour", "outdoors", "wind", wind),
        ],
        "gw-bakery": [
            sensor("bakery", "cold-room-bakery", "cold room", "temperature", cold_room),
            sensor("bakery", "door-bakery", "cold room", "door", Door(shut), reports_changes=True),
            sensor("bakery", "water-bakery", "cellar", "water", Meter(20, leak, 120, reset)),
        ],
        OFFLINE_TOO: [
            sensor("dairy", "tank-dairy", "yard", "level", Tank(filled), reports_changes=True),
            # It reports all the time, so that the gateway is not taken for offline while the tank does not change.
            sensor("dairy", "lab-dairy", "laboratory", "temperature", signal(_WARD, "lab-dairy", "temperature")),
        ],
        WRONG_CLOCK: [sensor("clinic", "ward-clinic", "ward", "temperature", ward)],
    }
