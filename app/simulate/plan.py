"""What is to be simulated."""

from urllib.parse import urlsplit

import msgspec

from app.clock import SECOND_US
from app.errors import SettingsError
from app.simulate.world.habits import LONGEST_OFFLINE_US


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A simulation; durations in microseconds of event time, except `duration_us`."""

    url: str
    key: str
    gateways: int = 3
    #: At each gateway.
    sensors: int = 4
    #: Between two readings of a sensor.
    every_us: int = 5 * SECOND_US
    #: Between two uploads of a gateway.
    batch_us: int = 20 * SECOND_US
    #: How long to run, on the wall clock; None runs until it is stopped.
    duration_us: int | None = None
    #: How much faster event time runs; above 1 it runs through the past, and reaches the present at the end.
    speed: float = 1.0
    #: How much of the past each gateway replays in bulk before.
    history_us: int = 0
    seed: int = 1
    #: Where the demo's story starts; None leaves excursions and offline spells to the seed.
    cued_at_us: int | None = None
    #: A gateway that cannot send keeps so many readings, and then loses the oldest; None is enough for its habits.
    buffer_readings: int | None = None
    #: How long a gateway waits before it tries again, about; twice as long each time.
    retry_s: float = 0.5
    #: Once the simulation is over, a gateway that gets nothing through for so long gives up.
    patience_s: float = 10.0

    @property
    def buffer_limit(self) -> int:
        """How many readings a gateway keeps: twice what it makes in its longest time offline, where nothing is said."""
        if self.buffer_readings is not None:
            return self.buffer_readings
        return max(2 * self.sensors * (LONGEST_OFFLINE_US // self.every_us), 100_000)

    def check(self) -> None:
        """Raise SettingsError for what cannot be simulated."""
        if not _is_address(self.url):
            raise SettingsError(f"The URL is {self.url!r}; it must look like http://127.0.0.1:8000")
        if self.speed != 1 and self.duration_us is None:
            raise SettingsError("--speed needs --for: event time has to know where to start to end at the present")
        if min(self.every_us, self.batch_us) < SECOND_US // 1_000:
            raise SettingsError("--every and --batch must be at least 1ms")


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        return address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # of a port that is no number, or of odd brackets
        return False
