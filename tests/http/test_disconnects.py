"""Reads are cancelled when their client leaves; changes and finished answers are not."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from litestar.types import Receive, Scope, Send

from app.http.disconnects import CancelReads


class Client:
    """One connection to an application that works until it is cancelled or released."""

    def __init__(self, method: str) -> None:
        self.began, self.released, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.outcome = ""
        self.sent: list[Any] = []
        self._method = method

    async def run(self, answer: Callable[[Receive, Send], Any]) -> None:
        async def application(_scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await answer(receive, send)
                self.outcome = "finished"
            except asyncio.CancelledError:
                self.outcome = "cancelled"
                raise

        async def receive() -> Any:
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.sent.append(message)

        scope = cast("Scope", {"type": "http", "method": self._method})
        await CancelReads(application)(scope, cast("Receive", receive), cast("Send", send))

    async def work(self, _receive: Receive, _send: Send) -> None:
        self.began.set()
        await self.released.wait()


@pytest.mark.parametrize(("method", "outcome"), [("GET", "cancelled"), ("HEAD", "cancelled"), ("POST", "finished")])
async def test_only_reads_are_cancelled_when_the_client_leaves(method: str, outcome: str) -> None:
    client = Client(method)
    async with asyncio.timeout(10):
        running = asyncio.create_task(client.run(client.work))
        await client.began.wait()
        client.left.set()
        if method == "POST":
            client.released.set()
        await running
    assert client.outcome == outcome


async def test_read_is_not_cancelled_when_its_answer_is_complete() -> None:
    client = Client("GET")

    async def answer(receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        client.left.set()
        assert (await receive())["type"] == "http.disconnect"

    async with asyncio.timeout(10):
        await client.run(answer)
    assert client.outcome == "finished"
    assert len(client.sent) == 1


async def test_cancellation_of_the_server_goes_on_when_no_client_has_left() -> None:
    client = Client("GET")
    running = asyncio.create_task(client.run(client.work))
    await client.began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
