"""The page's smoothness while 2,000 sensors scroll and change: longest task, rows in the document, layout shift.

The bound is on the time that a task itself uses: server, database and uploads share the cores with the browser, and
what a task waits for them is no fault of the page. The time on the clock is printed beside it.
"""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec
from playwright.async_api import Browser, Page, async_playwright

from tests.bench.processes import API_KEY, served
from tests.bench.report.rows import Goal, Row
from tests.bench.report.run import Run

SENSORS = 2_000
SECONDS = 10.0
CHANGES_EVERY_S = 1.0
STEP_PX = 400
SHAPE = f"{SENSORS:,} sensors × 3 metrics that all change every {CHANGES_EVERY_S:g} s"
#: What the page must keep to.
LONGEST_TASK_MS = 50
MOST_ROWS = 100
#: Counts tasks of over 50 ms on the clock and layout shifts, whatever caused them; follows frames.
WATCH = """() => {
  const seen = { tasks: [], shifts: [], rows: 0, frames: [] };
  const note = (list, value) => ({ observe: (type) => new PerformanceObserver((entries) => {
    for (const entry of entries.getEntries()) list.push(value(entry));
  }).observe({ type }) });
  note(seen.tasks, (entry) => entry.duration).observe("longtask");
  note(seen.shifts, (entry) => entry.value).observe("layout-shift");
  let last = performance.now();
  const follow = (now) => {
    seen.frames.push(now - last);
    last = now;
    seen.rows = Math.max(seen.rows, document.querySelectorAll("tr, [role=row]").length);
    requestAnimationFrame(follow);
  };
  requestAnimationFrame(follow);
  window.seen = seen;
}"""


async def measure(run: Run) -> AsyncIterator[Row]:
    """Measure with scrolling and without; raise AssertionError where rows or layout break a bound."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        yield Row(name="page", shape=SHAPE, figure=0, unit="ms", note="Chromium is not installed")
        return
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(run.database())
        server = await stack.enter_async_context(served(dsn, API_KEY_WS=API_KEY))
        http = await stack.enter_async_context(aiohttp.ClientSession(server.address, headers={"X-API-Key": API_KEY}))
        playwright = await stack.enter_async_context(async_playwright())
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await stack.enter_async_context(
            await playwright.chromium.launch(executable_path=chromium, args=flags)
        )
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await _post(http, 0)
        await page.goto(f"{server.address}/#key={API_KEY}")
        await page.locator("#table-body tr").first.wait_for()
        for scrolls in (True, False):
            yield await _measure(browser, http, page, scrolls, run.seconds(SECONDS))


async def _measure(browser: Browser, http: aiohttp.ClientSession, page: Page, scrolls: bool, seconds: float) -> Row:
    await asyncio.sleep(3)
    await page.evaluate(WATCH)
    await browser.start_tracing(page=page, categories=["toplevel"])
    changing = asyncio.create_task(_change(http))
    ends_at = time.monotonic() + seconds
    await page.mouse.move(700, 600)
    while time.monotonic() < ends_at:
        if scrolls:
            await page.mouse.wheel(0, STEP_PX)
        await asyncio.sleep(0.016)
    changing.cancel()
    seen: dict[str, Any] = await page.evaluate("window.seen")
    longest_ms = _longest_task_ms(await browser.stop_tracing())
    frames, shift = sorted(seen["frames"]), sum(seen["shifts"])
    assert seen["rows"] <= MOST_ROWS, f"{seen['rows']} rows in the document"
    assert shift == 0, f"layout shift {shift}"
    on_clock = f"{max(seen['tasks']):.0f}" if seen["tasks"] else "< 50"
    return Row(
        name=f"page, {'scrolling' if scrolls else 'at rest'}: longest task",
        shape=f"{SHAPE}, {seconds:g} s",
        figure=longest_ms,
        unit="ms of CPU",
        goal=Goal("≤", LONGEST_TASK_MS),
        note=f"on the clock {on_clock} ms; {len(frames)} frames, median {frames[len(frames) // 2]:.0f} ms, p99 "
        f"{frames[len(frames) * 99 // 100]:.0f} ms; {seen['rows']} rows in the document, no layout shift",
    )


def _longest_task_ms(trace: bytes) -> float:
    """Return the CPU time of the longest task in any page's main thread."""
    events = msgspec.json.decode(trace)["traceEvents"]
    names = [event for event in events if event["name"] == "thread_name"]
    threads = {(each["pid"], each["tid"]) for each in names if each["args"]["name"] == "CrRendererMain"}
    tasks = [each for each in events if each["name"].endswith("RunTask") and (each["pid"], each["tid"]) in threads]
    return float(max(each.get("tdur", 0) for each in tasks)) / 1e3


async def _change(http: aiohttp.ClientSession) -> None:
    number = 1
    while True:
        await _post(http, number)
        number += 1
        await asyncio.sleep(CHANGES_EVERY_S)


async def _post(http: aiohttp.ClientSession, number: int) -> None:
    """Post a reading of three metrics for each sensor; each number gives other values."""
    now = datetime.now(UTC)
    readings = [
        {
            "sensor": f"sensor-{sensor}",
            "time": now,
            "values": {
                "temperature": (sensor + number) % 300 / 10,
                "humidity": (sensor + number) % 100,
                "level": number,
            },
            "tags": {"site": f"site-{sensor % 20}"},
        }
        for sensor in range(SENSORS)
    ]
    body = msgspec.json.encode({"gateway": "gw-bench", "readings": readings})
    async with http.post("/api/v1/readings", data=body) as response:
        response.raise_for_status()
        await response.read()
