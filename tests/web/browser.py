"""A real browser for tests: Debian's Chromium, driven over the DevTools protocol.

The protocol: https://chromedevtools.github.io/devtools-protocol/
"""

import asyncio
import base64
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import aiohttp

_TIMEOUT_S = 20.0
_FLAGS = [
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--lang=en-GB",
    "--remote-debugging-port=0",
]


def find_chromium() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def running_chromium(program: str, profile: Path) -> Iterator[str]:
    """Run a browser without a window until the block ends; yield the address of its DevTools."""
    # Chromium's sandbox refuses to run as root, and no test depends on it.
    flags = [*_FLAGS, *(["--no-sandbox"] if os.geteuid() == 0 else []), f"--user-data-dir={profile}"]
    process = subprocess.Popen([program, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port, path = _wait_for_port(process, profile / "DevToolsActivePort")
        yield f"ws://127.0.0.1:{port}{path}"
    finally:
        process.terminate()
        process.wait(timeout=_TIMEOUT_S)


def _wait_for_port(process: "subprocess.Popen[bytes]", file: Path) -> tuple[str, str]:
    """Wait for the file that Chromium writes once it listens; return the port and the path of the browser's socket."""
    deadline = monotonic() + _TIMEOUT_S
    while monotonic() < deadline and process.poll() is None:
        with suppress(FileNotFoundError, ValueError):
            port, path = file.read_text().split()
            return port, path
        sleep(0.02)
    raise TimeoutError(f"Chromium did not start; its exit code is {process.poll()}")


@asynccontextmanager
async def opened_tab(devtools: str) -> AsyncIterator["Tab"]:
    """Open an empty tab with a storage of its own; close it when the block ends."""
    async with aiohttp.ClientSession() as http, http.ws_connect(devtools, max_msg_size=0) as socket:
        tab = Tab(socket)
        listening = asyncio.create_task(tab.listen())
        try:
            await tab.begin()
            yield tab
            await tab.end()
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


class Tab:
    """One tab of the browser, and the errors that its page caused."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        #: Errors and warnings on the console, uncaught exceptions, violations of the content security policy.
        self.errors: list[str] = []
        self._socket = socket
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._target: dict[str, str] = {}
        self._context = ""

    async def listen(self) -> None:
        """Receive the browser's answers and events for ever."""
        async for message in self._socket:
            received: dict[str, Any] = message.json()
            if "id" in received:
                self._answers.pop(received["id"]).set_result(received)
            else:
                self._store_error(received["method"], received["params"])

    async def begin(self) -> None:
        """Create the tab."""
        self._context = (await self.call("Target.createBrowserContext"))["browserContextId"]
        made = await self.call("Target.createTarget", url="about:blank", browserContextId=self._context)
        attached = await self.call("Target.attachToTarget", targetId=made["targetId"], flatten=True)
        self._target = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")

    async def end(self) -> None:
        """Close the tab and delete its storage."""
        self._target = {}
        await self.call("Target.disposeBrowserContext", browserContextId=self._context)

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        """Call the DevTools protocol and return the result; an error fails the test."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params, **self._target})
        answer = await asyncio.wait_for(self._answers[number], _TIMEOUT_S)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    async def go(self, address: str) -> None:
        """Load a page, without waiting for its scripts to connect."""
        await self.call("Page.navigate", url=address)
        await self.wait_for("document.readyState === 'complete'")

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page; an exception fails the test."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true; after 20 s fail and show the text of the page."""
        deadline = monotonic() + _TIMEOUT_S
        while not await self.evaluate(expression):
            if monotonic() > deadline:
                shown = await self.evaluate("document.body.innerText")
                raise AssertionError(f"never true: {expression}\n{shown}\n{self.errors}")
            await asyncio.sleep(0.02)

    async def text(self, selector: str) -> str:
        """Return the visible text of the first element that matches."""
        found: str = await self.evaluate(f"document.querySelector({selector!r}).innerText")
        return found

    async def click(self, selector: str) -> None:
        """Click an element with the mouse."""
        await self.evaluate(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
        box = await self.evaluate(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def type(self, text: str) -> None:
        """Type into the element that has the focus."""
        await self.call("Input.insertText", text=text)

    async def press(self, key: str) -> None:
        """Press and release a key, by its DOM name such as Enter or /."""
        known: dict[str, dict[str, Any]] = {
            "Enter": {"text": "\r", "windowsVirtualKeyCode": 13},
            "Escape": {"windowsVirtualKeyCode": 27},
        }
        details = known.get(key, {"text": key})
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **details)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def screenshot(self, file: Path) -> None:
        """Store a screenshot of the tab as a PNG file."""
        file.write_bytes(base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"]))

    def _store_error(self, method: str, params: dict[str, Any]) -> None:
        """Store an event of the browser if it is an error."""
        if method == "Runtime.exceptionThrown":
            self.errors.append(str(params["exceptionDetails"].get("exception", params)))
        if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(str(params["args"]))
        if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
