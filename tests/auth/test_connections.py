"""Limits of WebSocket connections for each API key."""

from contextlib import ExitStack

import pytest

from app.auth.connections import ConnectionCounts, TooManyConnectionsError
from app.auth.keys import ApiKey, Limits


def _key(label: str, ws_connections: int | None = None) -> ApiKey:
    return ApiKey(label, frozenset({"live"}), Limits(ws_connections))


def test_connections_are_counted_by_key_and_refused_over_the_servers_limit() -> None:
    counts = ConnectionCounts(default_limit=2)
    with counts.hold(_key("a")), counts.hold(_key("a")), counts.hold(_key("b")):
        with pytest.raises(TooManyConnectionsError) as refusal, counts.hold(_key("a")):
            pass
        assert str(refusal.value) == "Max connections (2) for this API Key reached."
        with counts.hold(_key("b")):
            pass


def test_place_is_free_again_when_a_connection_ends_by_an_error() -> None:
    counts = ConnectionCounts(default_limit=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), counts.hold(_key("a")):
            raise ZeroDivisionError
    with counts.hold(_key("a")):
        pass


def test_refused_connection_is_not_counted() -> None:
    counts = ConnectionCounts(default_limit=1)
    with counts.hold(_key("a")):
        for _ in range(2):
            with pytest.raises(TooManyConnectionsError), counts.hold(_key("a")):
                pass
    with counts.hold(_key("a")):
        pass


@pytest.mark.parametrize(("default_limit", "own", "held"), [(0, None, 50), (1, 0, 50), (0, 3, 3), (1, 3, 3)])
def test_own_limit_takes_precedence_and_zero_means_no_limit(default_limit: int, own: int | None, held: int) -> None:
    counts = ConnectionCounts(default_limit)
    with ExitStack() as stack:
        for _ in range(held):
            stack.enter_context(counts.hold(_key("a", own)))
        if held == 3:
            with pytest.raises(TooManyConnectionsError), counts.hold(_key("a", own)):
                pass
