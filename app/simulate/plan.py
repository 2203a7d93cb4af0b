"""The plan of a simulation: the options of `tidegauge simulate` and those of the demo."""

from urllib.parse import urlsplit

import msgspec

from app.clock import SECOND_US
from app.errors import SettingsError
from app.simulate.world.behaviour import LONGEST_OFFLINE_US


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of a simulation; durations are in microseconds of event time, except `duration_us`."""

    url: str
    key: str
    gateways: int = 3
    #: Number of sensors at each gateway.
    sensors: int = 4
    #: Time between two readings of a sensor.
    every_us: int = 5 * SECOND_US
    #: Time between two uploads of a gateway.
    batch_us: int = 20 * SECOND_US
    #: How long to run, on the wall clock. None: until the simulation is stopped.
    duration_us: int | None = None
    #: How many times faster than real time event time runs. Above 1 it starts in the past and ends in the present.
    speed: float = 1.0
    #: Length of the history that each gateway replays in bulk first.
    history_us: int = 0
    seed: int = 1
    #: Start of the demo, relative to which its excursions and offline periods begin. None: the seed decides.
    demo_start_us: int | None = None
    #: The most readings that a gateway buffers. None: enough for its longest offline period.
    buffer_readings: int | None = None
    #: About how long a gateway waits before its first retry; doubled for each further retry.
    retry_s: float = 0.5
    #: After the end of the timeline, a gateway gives up when no batch was stored or refused for this time.
    patience_s: float = 10.0

    @property
    def buffer_limit(self) -> int:
        """The most readings that a gateway buffers.

        When the plan does not set it: twice what the gateway makes in its longest offline period, at least 100,000.
        """
        if self.buffer_readings is not None:
            return self.buffer_readings
        return max(2 * self.sensors * (LONGEST_OFFLINE_US // self.every_us), 100_000)

    def check(self) -> None:
        """Raise SettingsError for a plan that cannot be simulated."""
        if not _is_address(self.url):
            raise SettingsError(f"The URL is {self.url!r}; it must look like http://127.0.0.1:8000")
        if self.speed != 1 and self.duration_us is None:
            raise SettingsError("--speed needs --for: without an end it is not known how far in the past to start")
        if min(self.every_us, self.batch_us) < SECOND_US // 1_000:
            raise SettingsError("--every and --batch must be at least 1ms")


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        return address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # the port is not a number, or the brackets of an IPv6 address are wrong
        return False
