"""Uploads of the bridge against a server that answers as a script says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import pytest

from app.mqtt import uploads
from app.mqtt.model import Draft
from app.mqtt.uploads import Uploader
from app.uplink import Uplink
from tests.simulate.scripted import ScriptedServer

DRAFTS = [Draft("a", {"n": number}, "2026-01-31T08:00:00Z") for number in range(4)]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "FIRST_PAUSE_S", 0.01)


@asynccontextmanager
async def uploader(server: ScriptedServer, gateway: str | None = None) -> AsyncIterator[Uploader]:
    async with aiohttp.ClientSession() as http:
        yield Uploader(Uplink(http, server.url, "key", "identity"), gateway)


def numbers(server: ScriptedServer) -> list[list[int]]:
    """Return the numbers in each upload."""
    return [[reading["values"]["n"] for reading in request.readings] for request in server.requests]


async def test_upload_is_sent_again_until_it_is_stored() -> None:
    async with ScriptedServer((503, {"Retry-After": "0"}), (500, {}), (401, {})) as server, uploader(server) as sends:
        stored = await sends.store(DRAFTS)
        assert (stored.accepted, sends.problem) == (4, "")
        assert numbers(server) == [[0, 1, 2, 3]] * 4


async def test_body_that_is_too_large_is_halved() -> None:
    async with ScriptedServer((413, {}), (413, {})) as server, uploader(server) as sends:
        stored = await sends.store(DRAFTS)
        assert (stored.accepted, stored.rejected) == (4, 0)
        assert numbers(server) == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3]]


async def test_reading_that_is_too_large_alone_is_given_up() -> None:
    async with ScriptedServer((413, {})) as server, uploader(server) as sends:
        stored = await sends.store(DRAFTS[:1])
        assert (stored.accepted, stored.rejected) == (0, 1)
        assert [(each.index, each.code) for each in stored.refusals] == [(0, "status_413")]


async def test_nothing_is_given_up_when_every_upload_is_refused() -> None:
    # As for a gateway that the key may not name: the upload without readings is refused like that with them.
    script: list[tuple[int, dict[str, str]]] = [(422, {}), (422, {}), (422, {}), (422, {})]
    async with ScriptedServer(*script) as server, uploader(server, "barn") as sends:
        stored = await sends.store(DRAFTS)
        assert (stored.accepted, stored.rejected) == (4, 0)
        assert numbers(server) == [[0, 1, 2, 3], [], [0, 1, 2, 3], [], [0, 1, 2, 3]]
        assert msgspec.json.decode(server.requests[0].body)["gateway"] == "barn"
