"""One simulated gateway: it measures all the time, and uploads its readings whenever it is online."""

import asyncio
from collections.abc import Callable, Iterator, Sequence

from app.simulate.buffer import Buffer, Measurement
from app.simulate.delivery import DeliveryCounts, GivenUpError, Tries, UploadDelivery
from app.simulate.plan import Plan
from app.simulate.world.behaviour import Behaviour
from app.simulate.world.chance import fraction, key_of
from app.simulate.world.sites import SimulatedSensor
from app.simulate.world.timeline import EventTimeline
from app.tasks import running
from app.uplink import Uplink

#: The most readings in one upload.
BATCH_READINGS = 1_000

#: Logs an event: takes its name, and its data as keyword arguments.
LogEvent = Callable[..., None]


class Gateway:
    """A gateway with its sensors, its buffer and its delivery of readings to the server."""

    def __init__(
        self,
        name: str,
        sensors: Sequence[SimulatedSensor],
        behaviour: Behaviour,
        plan: Plan,
        timeline: EventTimeline,
        log_event: LogEvent,
    ) -> None:
        self.name = name
        self.counts = DeliveryCounts()
        #: Set once all of the history is acknowledged.
        self.replayed = asyncio.Event()
        self._phase = "starting"
        self._sensors = sensors
        self.behaviour = behaviour
        self._plan = plan
        self._timeline = timeline
        self._log_event = log_event
        self._buffer = Buffer(plan.buffer_limit)
        self._delivery = UploadDelivery(name, plan, behaviour, timeline, self.counts)
        #: The time of its uploads within the batch interval, as a fraction, so that gateways do not upload all at once.
        self._upload_offset = fraction(key_of(plan.seed, name, "beat"))
        self._made_until_us = timeline.start_us if behaviour.has_history else timeline.live_us
        self._logged_excursions: frozenset[str] = frozenset()

    @property
    def sensor_count(self) -> int:
        """Number of its sensors."""
        return len(self._sensors)

    @property
    def change_reporters(self) -> list[str]:
        """The names of its sensors that report changes only."""
        return [sensor.name for sensor in self._sensors if sensor.reports_changes]

    @property
    def state(self) -> str:
        """The state of the gateway: starting, replaying, online, offline, retrying or done."""
        return "retrying" if self._delivery.is_pausing else self._phase

    @property
    def buffered(self) -> int:
        """Number of values that are made and not acknowledged."""
        return self._buffer.value_count + self._delivery.unacknowledged

    @property
    def tries(self) -> Tries:
        """Counts of its requests, and the server's last answers."""
        return self._delivery.tries

    @property
    def made_us(self) -> int:
        """Event time for which readings are made, in microseconds from the start of the timeline."""
        return self._made_until_us - self._timeline.start_us

    async def run(self, uplink: Uplink) -> None:
        """Replay the history, then measure and upload until the timeline ends.

        Readings that cannot be sent by then are dropped. Raise SettingsError when the key or the address is wrong.
        """
        try:
            await self._replay_history(uplink)
            if self._made_until_us >= self._timeline.live_us:
                self.replayed.set()
                await self._live(uplink)
        except GivenUpError:
            self._log_event("gateway_gave_up", gateway=self.name, buffered=self.buffered)
        finally:
            self._phase = "done"
            self.counts.dropped += self.buffered
            self._buffer.clear()
            self._delivery.clear()

    async def _replay_history(self, uplink: Uplink) -> None:
        """Send the history in full batches; the next batch is made only after the server has the one before."""
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
            self._log_excursions()
            await self._timeline.sleep_until(self._made_until_us + self._plan.every_us)

    async def _upload(self, uplink: Uplink) -> None:
        """Send the buffered readings every batch interval, unless offline; at the end, send the rest."""
        due_us = self._timeline.now_us() - int(self._upload_offset * self._plan.batch_us)
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
        offline = self.behaviour.offline
        return offline is not None and offline.cover(self._timeline.now_us())

    def _enter_offline(self) -> None:
        if self._phase != "offline":
            self._log_event("gateway_offline", gateway=self.name)
        self._phase = "offline"

    def _leave_offline(self) -> None:
        if self._phase == "offline":
            self._log_event("gateway_back", gateway=self.name, buffered=self.buffered)
            self._phase = "replaying"

    async def _send_all(self, uplink: Uplink) -> None:
        while readings := self._buffer.take(BATCH_READINGS):
            await self._delivery.deliver(uplink, readings)

    def _make(self, until_us: int) -> None:
        """Make and buffer the readings up to an event time; their times are those of the gateway's own clock."""
        if until_us <= self._made_until_us:
            return
        dropped = 0
        for reading in self._each_reading(self._made_until_us, until_us):
            dropped += self._buffer.add(reading)
            self.counts.made += len(reading.values)
        self._made_until_us = until_us
        self.counts.dropped += dropped
        if dropped:
            self._log_event("readings_dropped", gateway=self.name, values=dropped)

    def _each_reading(self, from_us: int, until_us: int) -> Iterator[Measurement]:
        """Yield the readings in [from, until).

        Time since 1970 is divided into intervals of `Plan.every_us`. A sensor measures once in each of them, always at
        the same offset.
        """
        every_us, skew_us = self._plan.every_us, self.behaviour.skew_us
        from_us, until_us = from_us + skew_us, until_us + skew_us
        for interval in range(from_us // every_us - 1, until_us // every_us + 1):
            for sensor in self._sensors:
                # Whole milliseconds, because that is the precision in which times are sent.
                time_us = (interval * every_us + int(sensor.offset * every_us)) // 1_000 * 1_000
                if from_us <= time_us < until_us and self._is_reported(sensor, time_us):
                    yield Measurement(sensor.name, time_us // 1_000, sensor.measure(time_us), sensor.tags)

    def _is_reported(self, sensor: SimulatedSensor, time_us: int) -> bool:
        """Return whether a sensor sends its value; one that reports changes also sends its first."""
        before_us = time_us - self._plan.every_us
        return (
            not sensor.reports_changes
            or before_us < self._timeline.start_us + self.behaviour.skew_us
            or sensor.measure(time_us) != sensor.measure(before_us)
        )

    def _log_excursions(self) -> None:
        """Log each excursion that has begun since the last call, once for all sensors that it affects."""
        affected: dict[str, list[str]] = {}
        for sensor in self._sensors:
            for what in sensor.list_excursions(self._made_until_us):
                affected.setdefault(what, []).append(sensor.name)
        for what, sensors in affected.items():
            if what not in self._logged_excursions:
                self._log_event("excursion_seen", gateway=self.name, what=what, sensors=" ".join(sensors))
        self._logged_excursions = frozenset(affected)
