"""How many connections each key may hold."""

from contextlib import ExitStack

import pytest

from app.auth.connections import ConnectionCounts, TooManyConnectionsError
from app.auth.keys import ApiKey, Limits


def _key(label: str, ws_connections: int | None = None) -> ApiKey:
    return ApiKey(label, frozenset({"live"}), Limits(ws_connections))


def test_connections_are_refused_past_the_servers_limit_and_counted_by_key() -> None:
    counts = ConnectionCounts(default_limit=2)
    with counts.hold(_key("a")), counts.hold(_key("a")), counts.hold(_key("b")):
        with pytest.raises(TooManyConnectionsError) as refusal, counts.hold(_key("a")):
            pass
        assert str(refusal.value) == "Max connections (2) for this API Key reached."
        with counts.hold(_key("b")):
            pass


def test_connection_is_free_again_when_one_ends_by_an_error() -> None:
    counts = ConnectionCounts(default_limit=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), counts.hold(_key("a")):
            raise ZeroDivisionError
    with counts.hold(_key("a")):
        pass


def test_refused_connection_takes_no_place_when_it_goes() -> None:
    counts = ConnectionCounts(default_limit=1)
    with counts.hold(_key("a")):
        for _ in range(2):
            with pytest.raises(TooManyConnectionsError), counts.hold(_key("a")):
                pass
    with counts.hold(_key("a")):
        pass


@pytest.mark.parametrize(("default_limit", "own", "held"), [(0, None, 50), (1, 0, 50), (0, 3, 3), (1, 3, 3)])
def test_own_limit_goes_first_and_zero_is_none_when_both_are_set(
    default_limit: int, own: int | None, held: int
) -> None:
    counts = ConnectionCounts(default_limit)
    with ExitStack() as stack:
        for _ in range(held):
            stack.enter_context(counts.hold(_key("a", own)))
        if held == 3:
            with pytest.raises(TooManyConnectionsError), counts.hold(_key("a", own)):
                pass
