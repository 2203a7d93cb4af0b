"""A server that answers the first uploads as a script says and accepts all later ones, as Tidegauge would."""

import asyncio
from collections import deque
from typing import Any, Self

import msgspec
from aiohttp import web


class Request(msgspec.Struct, frozen=True):
    """One upload, decompressed; `at` is its time on the event loop's clock, in seconds."""

    at: float
    headers: dict[str, str]
    body: bytes

    @property
    def readings(self) -> list[dict[str, Any]]:
        """The readings in the body."""
        upload: dict[str, Any] = msgspec.json.decode(self.body)
        return list(upload["readings"])


class ScriptedServer:
    """A server on 127.0.0.1; a test can choose its port and start it after the gateways."""

    def __init__(self, *script: tuple[int, dict[str, str]], port: int = 0) -> None:
        self.requests: list[Request] = []
        self._script = deque(script)
        self._port = port

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/api/v1/readings", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self._port}"

    async def _handle(self, request: web.Request) -> web.Response:
        received = Request(asyncio.get_running_loop().time(), dict(request.headers), await request.read())
        self.requests.append(received)
        if self._script:
            status, headers = self._script.popleft()
            return web.json_response({"detail": "as the script says"}, status=status, headers=headers)
        values = sum(len(reading["values"]) for reading in received.readings)
        return web.json_response({"seq": 1, "accepted": values, "duplicates": 0, "rejected": [], "rejected_count": 0})
