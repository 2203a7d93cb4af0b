"""A client for the ingest endpoints."""

import io
from typing import Any

import msgspec

from tests.conftest import Server

READINGS = "/api/v1/readings"
RECORD = "/api/temperature_reading"


class Answer(msgspec.Struct, frozen=True):
    """The server's answer to a request."""

    status: int
    body: Any
    retry_after: str | None
    content_type: str

    @property
    def counts(self) -> dict[str, Any]:
        """The receipt without its time."""
        return {name: value for name, value in self.body.items() if name != "server_time"}


async def send(server: Server, body: object, path: str = READINGS, **headers: str) -> Answer:
    """Post bytes unchanged, anything else as JSON, and return the answer; header names are written with underscores."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    # As a file, because aiohttp warns about large bodies in one piece.
    async with server.http.post(path, data=io.BytesIO(raw), headers=named) as response:
        answer = await response.read()
        return Answer(
            response.status,
            msgspec.json.decode(answer),
            response.headers.get("Retry-After"),
            response.content_type,
        )
