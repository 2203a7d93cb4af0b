"""How many WebSocket connections each key holds, in this process."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.auth.keys import ApiKey


class TooManyConnectionsError(Exception):
    """The key holds as many connections as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"Max connections ({limit}) for this API Key reached.")


class ConnectionCounts:
    """Counts connections by key; a key's own limit goes before the server's, and 0 is no limit."""

    def __init__(self, default_limit: int) -> None:
        self._default_limit = default_limit
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, api_key: ApiKey) -> Iterator[None]:
        """Count one connection while it lasts; raise TooManyConnectionsError."""
        own = api_key.limits.ws_connections
        limit = self._default_limit if own is None else own
        if limit and self._held[api_key.label] >= limit:
            raise TooManyConnectionsError(limit)
        self._held[api_key.label] += 1
        try:
            yield
        finally:
            self._held[api_key.label] -= 1
