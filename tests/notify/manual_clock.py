"""A clock for tests that moves only when it is set or slept on."""


class ManualClock:
    """A clock in seconds; `sleep` advances it at once. For one sleeper at a time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        """Advance the clock by `delay_s` seconds without waiting."""
        self.now += delay_s
