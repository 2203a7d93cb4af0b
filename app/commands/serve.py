"""`tidegauge serve`: the application under uvicorn."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import rich_click as click
import structlog
import uvicorn
from litestar import Litestar

from app.commands.console import command_body, load_settings
from app.errors import AppError, SettingsError
from app.main import create_app
from app.services import Services
from app.settings import Settings

#: How long requests under way may take after a signal.
GRACE_S = 10
#: Uploads and evaluations make tens of thousands of objects at a time, hardly any of them garbage in a cycle; by
#: default Python would look through all of them every 700.
GC_THRESHOLDS = (100_000, 20, 50)
_BACKLOG = 2_048
_SILENCE_MS = 60_000
log = structlog.get_logger()


class StartError(AppError):
    """The server stopped while it started."""

    code = "start"
    title = "The server did not start"


@click.command("serve")
@command_body
async def serve_command() -> None:
    """Serve; needs DATABASE_URL, a migrated schema and at least one API key."""
    await serve(load_settings())


async def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP reads the rules again. Raise AppError when it cannot start."""
    gc.set_threshold(*GC_THRESHOLDS)
    app = create_app(settings)
    # uvicorn would listen, and the lifespan would check, too, but they answer a refusal with a stack trace.
    listening = await listen(settings.host, settings.port)
    try:
        await check_start(app.state.services)
        await _Server(_config(app), app.state.services).serve(sockets=listening)
    except SystemExit:
        raise StartError("The log above says why") from None
    finally:
        for one in listening:
            one.close()


async def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of the host; raise SettingsError when that cannot be."""
    listening: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            listening.append(socket.create_server(address, family=family, backlog=_BACKLOG))
            # What a vanished client did not take is given up then, and its connection with it.
            listening[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
    except OSError as error:
        for one in listening:
            one.close()
        reason = os.strerror(error.errno) if isinstance(error.errno, int) and error.errno > 0 else str(error)
        raise SettingsError(f"HOST {host} and PORT {port} cannot be listened on: {reason}") from None
    return listening


async def check_start(services: Services) -> None:
    """Raise AppError with one clear line when the services could not start."""
    async with services.prepared():
        pass


def _config(app: Litestar) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        # A compressed frame costs twenty times the CPU of a plain one.
        ws_per_message_deflate=False,
        ws_max_size=2**20,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=75,
        lifespan="on",
    )


class _Server(uvicorn.Server):
    """uvicorn, except that a signal ends `serve` and not the process: the database is still to be stopped."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._reload_rules = services.alerting.keeper.reload_soon
        # Under nohup a terminal's end is to be survived.
        self._ends_with_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        for number in before:
            loop.add_signal_handler(number, self._handle, number)
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)

    def _handle(self, number: signal.Signals) -> None:
        """Take SIGHUP for what it says: to read the rules again, unless it is the terminal that was closed."""
        if number != signal.SIGHUP or (self._ends_with_terminal and not _has_terminal()):
            self.handle_exit(number, None)
        else:
            self._reload_rules()


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
