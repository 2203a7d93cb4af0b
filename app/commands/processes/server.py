"""An application under uvicorn: listening sockets, signals, and a clear error when it does not start."""

import asyncio
import errno
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any, cast

import uvicorn
from litestar import Litestar

from app.errors import AppError, SettingsError
from app.http.connections import OpenConnections, find_most_connections, raise_file_limit
from app.http.deadlines import Deadlines
from app.http.protocol import JoiningHttpProtocol
from app.live.wire import WireProtocol

#: After a signal to stop: longest time of running requests, and the time after which unanswered ones get 503.
GRACE_S, ANSWER_AT_STOP_S = 8, 6.0
#: Uploads and evaluations create tens of thousands of objects at a time, and hardly any of them are garbage in a
#: reference cycle. By default Python would search for such cycles after every 700 new objects.
GC_THRESHOLDS = (100_000, 20, 50)
#: Longest time that a start waits for a port that is taken.
PORT_WAIT_S = 3.0
_BACKLOG = 2_048
_UNACKNOWLEDGED_MS = 60_000


class StartError(AppError):
    """The process stopped during its start."""

    code = "start"
    title = "The server did not start"


async def run_app(app: Litestar, listening: Sequence[socket.socket], on_hangup: Callable[[], None]) -> None:
    """Run an application on these sockets until SIGINT or SIGTERM, then close them; SIGHUP calls `on_hangup`.

    Raise StartError when its lifespan does not open.
    """
    gc.set_threshold(*GC_THRESHOLDS)
    raise_file_limit()
    try:
        await _Server(uvicorn_config(app), on_hangup, app.state.deadlines).serve(sockets=list(listening))
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
            listening.append(await _listen_on(family, address))
            # The kernel closes the connection of a client that acknowledges nothing for this time: it has vanished.
            listening[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    except OSError as error:
        for one in listening:
            one.close()
        reason = os.strerror(error.errno) if isinstance(error.errno, int) and error.errno > 0 else str(error)
        raise SettingsError(f"HOST {host} and PORT {port} cannot be listened on: {reason}") from None
    return listening


async def _listen_on(family: int, address: Any) -> socket.socket:
    """Open a listening socket; wait for PORT_WAIT_S while the port is taken.

    The API of a supervisor that was just killed gives the port back as soon as it notices.
    """
    deadline = monotonic() + PORT_WAIT_S
    while True:
        try:
            return socket.create_server(address, family=family, backlog=_BACKLOG)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)


@contextmanager
def signals_handled(stop: Callable[[signal.Signals], None], on_hangup: Callable[[], None]) -> Iterator[None]:
    """Until the block ends, SIGINT and SIGTERM call `stop`, SIGHUP `on_hangup`, or `stop` if the terminal closed."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    # With nohup, SIGHUP is ignored at the start, and the process must survive the end of its terminal.
    ends_with_terminal = _has_terminal() and before[signal.SIGHUP] is not signal.SIG_IGN

    def handle(number: signal.Signals) -> None:
        if number != signal.SIGHUP or (ends_with_terminal and not _has_terminal()):
            stop(number)
        else:
            on_hangup()

    for number in before:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def uvicorn_config(app: Litestar, grace_s: int = GRACE_S) -> uvicorn.Config:
    """Return how uvicorn serves an application; running requests get `grace_s` to end."""
    open_connections = OpenConnections(find_most_connections())
    return uvicorn.Config(
        app,
        # uvicorn only calls them.
        http=cast("type[asyncio.Protocol]", partial(JoiningHttpProtocol, open_connections=open_connections)),
        ws=cast("type[asyncio.Protocol]", partial(WireProtocol, open_connections=open_connections)),
        # The application has its own setting for trusted proxies.
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        # A compressed frame takes twenty times as much CPU time as a plain one.
        ws_per_message_deflate=False,
        ws_max_size=2**20,
        timeout_graceful_shutdown=grace_s,
        timeout_keep_alive=75,
        lifespan="on",
    )


class _Server(uvicorn.Server):
    """A uvicorn server with its own signal handlers: a signal ends the server and not the process.

    A command may still have to stop an embedded database afterwards.
    """

    def __init__(self, config: uvicorn.Config, on_hangup: Callable[[], None], deadlines: Deadlines) -> None:
        super().__init__(config)
        self._on_hangup = on_hangup
        self._deadlines = deadlines

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer the requests under way in time, then stop as uvicorn does."""
        self._deadlines.stop_within(ANSWER_AT_STOP_S)
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with signals_handled(lambda number: self.handle_exit(number, None), self._on_hangup):
            yield


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
