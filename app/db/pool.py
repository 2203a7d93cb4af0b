"""Connections to PostgreSQL: the pool of a process, and single connections that must keep their session.

Every session is made by `connect` and set up by `_set_up`, those of a pool as well.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakSet, ref

import asyncpg
import msgspec
from asyncpg.connect_utils import SessionAttribute

from app.dsn import split_hosts
from app.errors import OverloadedError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    # Only asyncpg's stubs accept type arguments for these classes.
    Pool = asyncpg.Pool[asyncpg.Record]
    Session = asyncpg.Connection[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    Session = Connection = asyncpg.Connection

#: Longest time of one statement, unless the caller gives another.
COMMAND_TIMEOUT_S = 30
POOL_SIZE = 10
#: Longest wait for a connection of a pool, and for a connection that hangs while it is given back.
ACQUIRE_TIMEOUT_S = 5.0
#: Longest time until a host has accepted a connection and set up its session: a single host, and one of several.
CONNECT_TIMEOUT_S, HOST_TIMEOUT_S = 5.0, 3.0
#: For this time, a host that did not answer or only reads is tried after the others.
SUSPECT_S = 10.0
#: The role of the API, which may read and write rows and nothing else.
APP_ROLE = "tidegauge_app"
#: The role of Grafana, which may only read.
READER_ROLE = "tidegauge_reader"
#: Errors of a database that is unreachable, busy or shutting down, or that refuses a statement. asyncpg raises
#: InternalClientError on a connection that the server is just closing.
DATABASE_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
#: Passing errors of one host; after them the next host is tried.
HOST_ERRORS = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    # While the session is set up, the server stops or one of its processes is killed.
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ReadOnlySQLTransactionError,
    # asyncpg has lost the connection in the middle of a message, or the host has not the attribute that is asked for.
    asyncpg.InternalClientError,
    asyncpg.TooManyConnectionsError,
)

#: Sent as startup parameters; PgBouncer takes these and refuses others.
_AT_STARTUP = ("application_name", "timezone")
_SETTINGS = {
    "application_name": "tidegauge",
    "timezone": "UTC",
    "jit": "off",
    # A transaction whose client is gone must not keep its locks.
    "idle_in_transaction_session_timeout": "5s",
    # Longer than it takes to end a session that hangs with its locks, see app/db/servers/stalled.py.
    "lock_timeout": "15s",
    # With these, the server notices after 11 s (measured) that the host of a client has vanished. Without them, a
    # session that waits for more of a COPY would keep its locks for two hours.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10s",
    # The statement of a client that is gone is ended.
    "client_connection_check_interval": "5s",
}
#: The same for our side of the connection.
_SOCKET_OPTIONS = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 2),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 10_000),
)
_DEMAND_WRITES = """
DO $$ BEGIN
    IF current_setting('transaction_read_only')::boolean THEN
        RAISE EXCEPTION 'the server only reads: it is a standby, or default_transaction_read_only is on'
            USING ERRCODE = 'read_only_sql_transaction';
    END IF;
END $$;
"""
#: When each host, by its address, has failed last.
_failed_at: dict[str, float] = {}
#: Sessions that have met a server which only reads.
_to_cut: WeakSet[Session] = WeakSet()

#: If the user may not become the role, the session continues as the user; the API logs a warning at its start.
_BECOME_ROLE = """
DO $$ BEGIN
    IF to_regrole('{role}') IS NOT NULL AND pg_has_role(
        session_user, '{role}',
        CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END
    ) THEN
        SET ROLE {role};
    END IF;
END $$;
"""


class PoolBusyError(OverloadedError, TimeoutError):
    """All connections of a pool are in use, and none became free in time."""


class _CutSession(asyncpg.Connection):
    """A connection on which a statement fails with one of DATABASE_ERRORS when another task cuts it.

    asyncpg forgets its protocol then, and a statement that has just been prepared fails with AttributeError.
    """

    _protocol: Any

    def _abort(self) -> None:
        self._aborted = True
        self._protocol.abort()


class _Kind(NamedTuple):
    """The purpose of a session."""

    settings: Mapping[str, str]
    #: Whether a server that only reads is refused.
    writes: bool
    command_timeout_s: float | None
    role: str | None


class BoundedPool(Pool):
    """A pool that limits each wait: for a connection, and for giving one back."""

    acquire_timeout_s = ACQUIRE_TIMEOUT_S
    #: Called with the seconds of each wait for a connection, also of one that failed.
    on_wait: Callable[[float], None] = staticmethod(lambda seconds: None)

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.sessions: WeakSet[Session] = WeakSet()

    def cut(self) -> None:
        """Abort all connections; statements on them fail at once, and the next use opens new ones."""
        for session in [*self.sessions]:
            session.terminate()

    def acquire(self, *, timeout: float | None = None) -> Any:
        """Return a connection, also as a context manager; raise TimeoutError."""
        return super().acquire(timeout=self.acquire_timeout_s if timeout is None else timeout)

    async def _acquire(self, timeout: float | None) -> Any:
        began = monotonic()
        try:
            return await super()._acquire(timeout)  # type: ignore[misc]
        except TimeoutError as error:
            if self.get_size() < self.get_max_size() or self.get_idle_size():
                raise  # a connection could not be opened
            raise PoolBusyError("The database is busy with other requests. Try again.") from error
        finally:
            self.on_wait(monotonic() - began)


async def open_pool(
    dsn: str,
    *,
    min_size: int = 2,
    max_size: int = POOL_SIZE,
    writes: bool = True,
    command_timeout_s: float = COMMAND_TIMEOUT_S,
    acquire_timeout_s: float = ACQUIRE_TIMEOUT_S,
    pool_class: type[BoundedPool] = BoundedPool,
    role: str | None = None,
    **settings: str,
) -> BoundedPool:
    """Open a pool whose connections use UTC and decode jsonb; raise OSError or asyncpg.PostgresError on failure.

    With `writes`, a server that only reads is refused. `settings` are PostgreSQL settings of the sessions, such as
    statement_timeout. The sessions use `role` if the user of the address may become it, else that user.
    """
    kind = _Kind({**_SETTINGS, **settings}, writes, command_timeout_s, role)

    async def connect_for_pool(**_of_asyncpg: object) -> Session:
        session = await _connect(dsn, kind)
        pool.sessions.add(session)
        return session

    pool = pool_class(
        min_size=min_size,
        max_size=max_size,
        max_queries=50_000,
        max_inactive_connection_lifetime=60,
        connect=connect_for_pool,
        reset=_reset,
        loop=None,
        connection_class=cast("Any", asyncpg.Connection),
        record_class=asyncpg.Record,
    )
    pool.acquire_timeout_s = acquire_timeout_s
    await pool
    return pool


async def connect(
    dsn: str,
    *,
    writes: bool = True,
    command_timeout_s: float | None = None,
    role: str | None = None,
    **settings: str,
) -> Connection:
    """Open one connection outside the pool, for work that must keep its session: LISTEN, a lease, a migration.

    If the address has several hosts, use the first one that answers; with `writes`, the first one that takes writes.
    Raise HOST_ERRORS and asyncpg.PostgresError.
    """
    return await _connect(dsn, _Kind({**_SETTINGS, **settings}, writes, command_timeout_s, role))


@contextmanager
def cut_after(connection: Connection, seconds: float) -> Iterator[None]:
    """Abort a connection if the block takes longer. Cancelling the query would wait for a server that may hang."""
    timer = asyncio.get_running_loop().call_later(seconds, connection.terminate)
    try:
        yield
    finally:
        timer.cancel()


async def _connect(dsn: str, kind: _Kind) -> Session:
    hosts = split_hosts(dsn)
    if "target_session_attrs=prefer-standby" in dsn and not kind.writes:
        # asyncpg would take a primary that is the only host.
        hosts = [host.replace("=prefer-standby", f"={wanted}") for wanted in ("standby", "any") for host in hosts]
    timeout_s = CONNECT_TIMEOUT_S if len(hosts) == 1 else HOST_TIMEOUT_S
    failures: list[BaseException] = []
    for host in sorted(hosts, key=_is_suspect):
        try:
            async with asyncio.timeout(timeout_s):
                return await _connect_host(host, kind)
        except HOST_ERRORS as error:
            _failed_at[host] = monotonic()
            failures.append(error)
    raise failures[-1]


def _is_suspect(host: str) -> bool:
    return monotonic() - _failed_at.get(host, float("-inf")) < SUSPECT_S


async def _connect_host(host: str, kind: _Kind) -> Session:
    session: Session = await asyncpg.connect(
        host,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=kind.command_timeout_s,
        connection_class=_CutSession,
        server_settings={name: kind.settings[name] for name in _AT_STARTUP},
        # _set_up checks this: a pooler may report an outdated state of the server.
        target_session_attrs=SessionAttribute.any if kind.writes else None,
    )
    try:
        await _set_up(session, kind)
    except BaseException:
        session.terminate()
        raise
    return session


async def _set_up(session: Session, kind: _Kind) -> None:
    """Prepare a new session: demand a server that writes, apply our settings, set its role, and convert jsonb."""
    _watch_socket(session)
    statements = [f"SET {name} TO '{value}';" for name, value in kind.settings.items() if name not in _AT_STARTUP]
    become = "" if kind.role is None else _BECOME_ROLE.format(role=kind.role)
    # In one round trip.
    await session.execute("\n".join([_DEMAND_WRITES if kind.writes else "", *statements, become]))
    await session.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
    )
    session.add_query_logger(partial(_note_read_only, ref(session)))


def _watch_socket(session: Any) -> None:
    """Let the kernel notice a server that has vanished; asyncpg has no public access to its socket."""
    peer = session._transport.get_extra_info("socket")
    if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
        for level, name, value in _SOCKET_OPTIONS:
            if hasattr(socket, name):  # not all exist on macOS
                peer.setsockopt(level, getattr(socket, name), value)


def _note_read_only(session: Callable[[], Session | None], query: Any) -> None:
    """Mark a session on a server that only reads, so that it ends and the next one finds a server that writes."""
    if isinstance(query.exception, asyncpg.ReadOnlySQLTransactionError) and (found := session()) is not None:
        _to_cut.add(found)


async def _reset(session: Session) -> None:
    """Cut a session of a pool that must not be used again; leave others as they are.

    Nothing in a pool changes its session. The reset of asyncpg would undo our settings, and takes a round trip.
    """
    if session in _to_cut:
        session.terminate()
