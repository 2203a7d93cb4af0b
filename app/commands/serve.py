"""`tidegauge serve`: runs the application under uvicorn."""

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
from app.http_protocol import JoiningHttpProtocol
from app.main import create_app
from app.services import Services
from app.settings import Settings

#: How long running requests may take after a signal to stop.
GRACE_S = 10
#: Uploads and evaluations create tens of thousands of objects at a time, and hardly any of them are garbage in a
#: reference cycle. By default Python would search for such cycles after every 700 new objects.
GC_THRESHOLDS = (100_000, 20, 50)
_BACKLOG = 2_048
_UNACKNOWLEDGED_MS = 60_000
log = structlog.get_logger()


class StartError(AppError):
    """The server stopped during its start."""

    code = "start"
    title = "The server did not start"


@click.command("serve")
@command_body
async def serve_command() -> None:
    """Run the server; needs DATABASE_URL, a migrated schema and at least one API key."""
    await serve(load_settings())


async def serve(settings: Settings, needs_key: bool = True) -> None:
    """Run the server until SIGINT or SIGTERM; SIGHUP reloads the rules. Raise AppError when the server cannot start.

    With `needs_key`, it does not start while no API key exists.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    app = create_app(settings, needs_key)
    # uvicorn would also open the sockets, and the lifespan would also check the start, but both print a stack trace
    # when they fail.
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
    """Return listening sockets, one for each address of the host; raise SettingsError when one cannot be opened."""
    listening: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            listening.append(socket.create_server(address, family=family, backlog=_BACKLOG))
            # A client that has vanished acknowledges nothing; the kernel closes its connection after this time.
            listening[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    except OSError as error:
        for one in listening:
            one.close()
        reason = os.strerror(error.errno) if isinstance(error.errno, int) and error.errno > 0 else str(error)
        raise SettingsError(f"HOST {host} and PORT {port} cannot be listened on: {reason}") from None
    return listening


async def check_start(services: Services) -> None:
    """Raise AppError, with a message of one line, when the services cannot start."""
    async with services.prepared():
        pass


def _config(app: Litestar) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=JoiningHttpProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        # A compressed frame takes twenty times as much CPU time as a plain one.
        ws_per_message_deflate=False,
        ws_max_size=2**20,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=75,
        lifespan="on",
    )


class _Server(uvicorn.Server):
    """A uvicorn server with its own signal handlers: a signal ends `serve` and not the process.

    `tidegauge up` must still stop the embedded database afterwards. SIGHUP reloads the rules.
    """

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._reload_rules = services.alerting.keeper.reload_soon
        # With nohup, SIGHUP is ignored at the start, and the server must survive the end of its terminal.
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
        """Stop the server; for SIGHUP, reload the rules instead, unless the terminal was closed."""
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
