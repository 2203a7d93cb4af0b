"""Limits of WebSocket connections for each API key, in this process."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from app.auth.keys import ApiKey


class TooManyConnectionsError(Exception):
    """The key has as many connections as its limit allows."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"Max connections ({limit}) for this API Key reached.")


class ConnectionCounts:
    """Counts connections for each key. A key's own limit takes precedence over the server's; 0 means no limit."""

    def __init__(self, default_limit: int) -> None:
        self._default_limit = default_limit
        self._held: Counter[str] = Counter()

    @contextmanager
    def hold(self, api_key: ApiKey) -> Iterator[None]:
        """Count one connection until the block ends; raise TooManyConnectionsError if the limit is reached."""
        own = api_key.limits.ws_connections
        limit = self._default_limit if own is None else own
        if limit and self._held[api_key.label] >= limit:
            raise TooManyConnectionsError(limit)
        self._held[api_key.label] += 1
        try:
            yield
        finally:
            self._held[api_key.label] -= 1
