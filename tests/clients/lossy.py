"""An HTTP proxy before the API that loses answers when told, and counts what is sent again."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

_HOP_HEADERS = {"host", "connection", "transfer-encoding", "content-length", "keep-alive"}


class LossyProxy:
    """Passes requests on to an address; `loses` lets the server do what it is asked, and its answer get lost."""

    def __init__(self, target: str) -> None:
        self.url = ""
        self.loses = False
        self._target = target
        self._seen = Counter[tuple[str, bytes]]()
        self._http: aiohttp.ClientSession

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen on a free port until the block ends."""
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(60)) as self._http:
            try:
                yield
            finally:
                await runner.cleanup()

    def retries(self, mark: str) -> int:
        """Return how many requests were sent again that have this text in their path or body."""
        return sum(times - 1 for (path, body), times in self._seen.items() if mark in path or mark.encode() in body)

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self._seen[request.path_qs, body] += 1
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_HEADERS}
        try:
            async with self._http.request(
                request.method, f"{self._target}{request.path_qs}", data=body, headers=headers, allow_redirects=False
            ) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError):
            return self._hang_up(request)
        if self.loses:
            return self._hang_up(request)
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_HEADERS}
        return web.Response(status=answer.status, body=content, headers=kept)

    def _hang_up(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
