"""The other end of `make demo`: a local receiver to which alerts are sent, and that shows them."""

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
    """Give settings under which the example rules also tell a receiver on this machine, for as long as it runs."""
    application = web.Application()
    application.router.add_post("/", _show)
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
    """Copy the rules beside a file with the receiver as their channel."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in rules.glob("*.yml"):
        shutil.copy(path, folder)
    (folder / "demo-channel.yml").write_text(_CHANNELS, encoding="utf-8")
    return folder


async def _show(request: web.Request) -> web.Response:
    """Print a message as an operator would get it."""
    message = await request.json()
    _console.print(f"\n{message['emoji']} [bold]{escape(message['title'])}[/]", highlight=False)
    for entry in message["entries"]:
        since = " since " + entry["since"][:16] if entry.get("since") else ""
        until = " until " + entry["until"][:16] if entry.get("until") else ""
        note = "  " + entry["note"] if entry.get("note") else ""
        what = escape(_measured(entry))
        _console.print(f"   {what}[dim]{since}{until}[/]{escape(note)}", highlight=False, soft_wrap=True)
    return web.Response(text="ok")


def _measured(entry: dict[str, Any]) -> str:
    """Name sensor, metric and value; what a rule computed has digits that nobody measured."""
    value = "" if entry.get("value") is None else f"{entry['value']:.6g} {entry.get('unit', '')}"
    return " ".join(f"{entry['sensor']} {entry['metric']} {value}".split())
