"""How many notifications an API key may send."""

import time
from collections.abc import Callable
from typing import Final

from app.auth.rates import KeyRates, Rate
from app.broker.sql import SQL
from app.db.shared import SharedState

#: Twice the highest rate that was measured for one process, so that it limits only clients that are out of control.
DEFAULT_RATE: Final = Rate(per_minute=2_000 * 60, burst=4_000)


class RateLimiter(KeyRates):
    """Counts notifications for each key."""

    def __init__(
        self, shared: SharedState, default: Rate = DEFAULT_RATE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        statements = SQL["count_notification"], SQL["get_notification_rate"]
        super().__init__(
            shared, "notifications", lambda limits: limits.notifications_per_minute, statements, default, clock
        )
