"""Time that passes only when told to."""


class ManualClock:
    """A clock in seconds; whoever sleeps by it moves it on. For one sleeper at a time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        """Let that much time pass, at once."""
        self.now += delay_s
