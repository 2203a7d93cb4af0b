"""One simulated gateway: it measures without pause, and sends what it has whenever it is online."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from app.simulate.buffer import Buffer
from app.simulate.delivery import DeliveryCounts, GivenUpError, Tries, UploadDelivery
from app.simulate.plan import Plan
from app.simulate.uplink import Measurement, Uplink
from app.simulate.world.chance import fraction, key_of
from app.simulate.world.habits import Habits
from app.simulate.world.sites import SimulatedSensor
from app.simulate.world.timeline import Timeline
from app.tasks import running

#: Readings in one upload at most.
BATCH_READINGS = 1_000

#: Told of what happens: the event's name, then its data.
NoteEvent = Callable[..., None]


class Gateway:
    """A gateway with its sensors, its buffer and its way to the server."""

    def __init__(
        self,
        name: str,
        sensors: Sequence[SimulatedSensor],
        habits: Habits,
        plan: Plan,
        timeline: Timeline,
        say: NoteEvent,
    ) -> None:
        self.name = name
        self.counts = DeliveryCounts()
        #: Set once all of the history is acknowledged.
        self.replayed = asyncio.Event()
        self._phase = "starting"
        self._sensors = sensors
        self.habits = habits
        self._plan = plan
        self._timeline = timeline
        self._say = say
        self._buffer = Buffer(plan.buffer_limit)
        self._delivery = UploadDelivery(name, plan, habits, timeline, self.counts)
        #: Where in the batch interval it sends, so that not all gateways do at once.
        self._beat = fraction(key_of(plan.seed, name, "beat"))
        self._made_until_us = timeline.start_us
        self._troubles: frozenset[str] = frozenset()

    @property
    def state(self) -> str:
        """Say what it is doing, in a word."""
        return "retrying" if self._delivery.is_pausing else self._phase

    @property
    def buffered(self) -> int:
        """Values that are made and not acknowledged yet."""
        return self._buffer.value_count + self._delivery.under_way

    @property
    def tries(self) -> Tries:
        """How its uploads went."""
        return self._delivery.tries

    @property
    def made_us(self) -> int:
        """How much event time it has covered."""
        return self._made_until_us - self._timeline.start_us

    async def run(self, uplink: Uplink) -> None:
        """Replay the history, then measure and send until the timeline ends.

        What could not be sent by then is dropped. Raises SettingsError when the server will have nothing of it.
        """
        try:
            await self._replay_history(uplink)
            if self._made_until_us >= self._timeline.live_us:
                self.replayed.set()
                await self._live(uplink)
        except GivenUpError:
            self._say("gateway_gave_up", gateway=self.name, buffered=self.buffered)
        finally:
            self._phase = "done"
            self.counts.dropped += self.buffered
            self._buffer.clear()
            self._delivery.clear()

    async def _replay_history(self, uplink: Uplink) -> None:
        """Send the past in full batches, made only as fast as they are taken."""
        slice_us = self._plan.every_us * max(BATCH_READINGS // len(self._sensors), 1)
        self._phase = "replaying"
        while self._made_until_us < self._timeline.live_us and not self._timeline.is_stopped:
            self._make(min(self._made_until_us + slice_us, self._timeline.live_us))
            await self._send_all(uplink)

    async def _live(self, uplink: Uplink) -> None:
        async with running(self._measure(), f"{self.name} measures"):
            await self._upload(uplink)

    async def _measure(self) -> None:
        while True:
            self._make(self._timeline.now_us())
            self._tell_troubles()
            await self._timeline.sleep_until(self._made_until_us + self._plan.every_us)

    async def _upload(self, uplink: Uplink) -> None:
        """Send what there is every batch interval, unless offline; at the end whatever is left."""
        due_us = self._timeline.now_us() - int(self._beat * self._plan.batch_us)
        while not self._timeline.is_over:
            if self._is_offline():
                self._enter_offline()
            else:
                self._leave_offline()
                await self._send_all(uplink)
                self._phase = "online"
            due_us = max(due_us + self._plan.batch_us, self._timeline.now_us())
            await self._timeline.sleep_until(due_us)
        self._leave_offline()
        self._make(self._timeline.now_us())
        await self._send_all(uplink)

    def _is_offline(self) -> bool:
        spells = self.habits.spells
        return spells is not None and spells.cover(self._timeline.now_us())

    def _enter_offline(self) -> None:
        if self._phase != "offline":
            self._say("gateway_offline", gateway=self.name)
        self._phase = "offline"

    def _leave_offline(self) -> None:
        if self._phase == "offline":
            self._say("gateway_back", gateway=self.name, buffered=self.buffered)
            self._phase = "replaying"

    async def _send_all(self, uplink: Uplink) -> None:
        while readings := self._buffer.take(BATCH_READINGS):
            await self._delivery.deliver(uplink, readings)

    def _make(self, until_us: int) -> None:
        """Make the readings from where we were up to an event time, by the gateway's own clock."""
        if until_us <= self._made_until_us:
            return
        dropped = 0
        for reading in self._each_reading(self._made_until_us, until_us):
            dropped += self._buffer.add(reading)
            self.counts.made += len(reading.values)
        self._made_until_us = until_us
        self.counts.dropped += dropped
        if dropped:
            self._say("readings_dropped", gateway=self.name, values=dropped)

    def _each_reading(self, from_us: int, until_us: int) -> Iterator[Measurement]:
        """Give the readings of [from, until): each sensor has its place in every interval since 1970."""
        every_us, skew_us = self._plan.every_us, self.habits.skew_us
        from_us, until_us = from_us + skew_us, until_us + skew_us
        for beat in range(from_us // every_us - 1, until_us // every_us + 1):
            for sensor in self._sensors:
                # Whole milliseconds, which is what is sent.
                time_us = (beat * every_us + int(sensor.offset * every_us)) // 1_000 * 1_000
                if from_us <= time_us < until_us:
                    yield Measurement(sensor.name, time_us // 1_000, sensor.measure(time_us), sensor.tags)

    def _tell_troubles(self) -> None:
        """Say what has gone wrong since we looked last, once for all sensors that see it."""
        seen_by: dict[str, list[str]] = {}
        for sensor in self._sensors:
            for what in sensor.list_out(self._made_until_us):
                seen_by.setdefault(what, []).append(sensor.name)
        for what, sensors in seen_by.items():
            if what not in self._troubles:
                self._say("excursion_seen", gateway=self.name, what=what, sensors=" ".join(sensors))
        self._troubles = frozenset(seen_by)
