"""The receiver of `make demo`: a local web server that prints the alert messages sent to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from rich.console import Console
from rich.markup import escape

_console = Console(stderr=True)


@asynccontextmanager
async def demo_receiver() -> AsyncIterator[dict[str, str]]:
    """Run a receiver until the block ends; yield the variable that gives the worker a channel `demo` to it.

    The rules stay those of RULES_DIR, so that edits take effect.
    """
    application = web.Application()
    application.router.add_post("/", _print_message)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield {"CHANNEL_DEMO_URL": f"http://127.0.0.1:{port}/"}
    finally:
        await runner.cleanup()


async def _print_message(request: web.Request) -> web.Response:
    """Print the title and the entries of a message on standard error."""
    message = await request.json()
    _console.print(f"\n{message['emoji']} [bold]{escape(message['title'])}[/]", highlight=False)
    for entry in message["entries"]:
        since = " since " + entry["since"][:16] if entry.get("since") else ""
        until = " until " + entry["until"][:16] if entry.get("until") else ""
        note = "  " + entry["note"] if entry.get("note") else ""
        measured = escape(_measured(entry))
        _console.print(f"   {measured}[dim]{since}{until}[/]{escape(note)}", highlight=False, soft_wrap=True)
    return web.Response(text="ok")


def _measured(entry: dict[str, Any]) -> str:
    """Return sensor, metric and value; six digits, because a computed value has more digits than were measured."""
    value = "" if entry.get("value") is None else f"{entry['value']:.6g} {entry.get('unit', '')}"
    return " ".join(f"{entry['sensor']} {entry['metric']} {value}".split())
