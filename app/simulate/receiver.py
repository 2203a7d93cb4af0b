"""The receiver of `make demo`: a local web server that prints the alert messages sent to it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from rich.console import Console
from rich.markup import escape

from app.clock import now

_console = Console(stderr=True)


@asynccontextmanager
async def demo_receiver() -> AsyncIterator[dict[str, str]]:
    """Run a receiver until the block ends; yield the variable that gives the worker the channels of the demo to it.

    The rules stay those of RULES_DIR, so that edits take effect. The channels are of the type ntfy, whose messages are
    the text that people read.
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
    """Print the channel, the title and the text of a message on standard error."""
    message = await request.json()
    at = f"{now().astimezone():%H:%M:%S}"
    title = f"{message['tags'][0]} [bold]{escape(message['title'])}[/]"
    _console.print(f"\n{title}  [dim]{at} to {escape(message['topic'])}[/]", highlight=False, soft_wrap=True)
    for line in message["message"].splitlines():
        _console.print(f"   {escape(line)}" if line else "", highlight=False, soft_wrap=True)
    return web.json_response({"id": "demo"})
