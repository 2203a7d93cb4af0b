"""The receiver of `make demo`: a local web server that prints the alert messages sent to it."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from rich.console import Console
from rich.markup import escape

from app.settings import Settings

_CHANNELS = 'version: 1\nchannels:\n  demo: {type: webhook, url: "${DEMO_RECEIVER_URL}"}\n'
_console = Console(stderr=True)


@asynccontextmanager
async def demo_receiver(settings: Settings) -> AsyncIterator[Settings]:
    """Run a receiver until the block ends; yield settings with rules that send their messages to it."""
    application = web.Application()
    application.router.add_post("/", _print_message)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield msgspec.structs.replace(
            settings,
            rules_dir=_with_channel(settings.rules_dir, settings.data_dir / "demo-rules"),
            environment={**settings.environment, "DEMO_RECEIVER_URL": f"http://127.0.0.1:{port}/"},
        )
    finally:
        await runner.cleanup()


def _with_channel(rules: Path, folder: Path) -> Path:
    """Copy the rules to a folder, add a file that defines the receiver as their channel, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in rules.glob("*.yml"):
        shutil.copy(path, folder)
    (folder / "demo-channel.yml").write_text(_CHANNELS, encoding="utf-8")
    return folder


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
