"""States of the configured channels: working or broken, and the new ids of chats that have moved."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec
import structlog

from app.db.pool import Connection, Pool
from app.notify.channels import Channel
from app.notify.message import Message
from app.notify.outbox import Composed, enqueue
from app.notify.pacing import SendLimit
from app.notify.sql import SQL
from app.notify.transport import ChannelConfig, fingerprint

#: Prefix of the group of a notice about a broken channel; the channel's name follows. No rule's group begins with it.
NOTICE_PREFIX: Final = "channel_broken:"

ChannelSource = Callable[[], Mapping[str, tuple[Channel, ChannelConfig]]]
#: Takes a channel's name and returns the channels through which people are told that it is broken, best first.
Fallbacks = Callable[[str], Sequence[str]]

log = structlog.get_logger()


class ChannelState(msgspec.Struct, frozen=True):
    """A configured channel and its current destination."""

    name: str
    channel: Channel
    #: As configured, except that a chat that has moved has its new id.
    config: ChannelConfig
    limits: tuple[SendLimit, ...]
    #: Fingerprint of the configuration; a broken channel counts as working again when its fingerprint changes.
    config_hash: str
    #: The destination as configured; moves are stored under it.
    configured_destination: str

    @property
    def destination(self) -> str:
        """Return the destination's name, which holds no secret."""
        return self.channel.destination(self.config)


class Broken(msgspec.Struct, frozen=True):
    """The stored state of a broken channel, through which no message can be sent."""

    config_hash: str
    since: datetime
    reason: str
    #: The channel through which people were told; None if they were not.
    told_through: str | None
    #: Time of the database's clock when this row was read.
    now: datetime


class ChannelStatus(msgspec.Struct, frozen=True):
    """A configured channel as the API shows it: without its settings."""

    name: str
    type: str
    state: Literal["working", "broken"]
    broken_since: datetime | None = None
    reason: str | None = None
    #: The channel through which people were told.
    told_through: str | None = None


class ChannelStates:
    """The channels' states as one process knows them; `refresh` reads what other processes have stored."""

    def __init__(self, channels: ChannelSource, fallbacks: Fallbacks) -> None:
        self._channels = channels
        self._fallbacks = fallbacks
        self._moves: dict[str, int] = {}

    def all(self) -> dict[str, ChannelState]:
        """Return the state of every channel that is configured now, by name."""
        return {name: self._state(name, channel, config) for name, (channel, config) in self._channels().items()}

    async def refresh(self, pool: Pool) -> dict[str, Broken]:
        """Read the moves of chats, and return the broken channels by name.

        A broken channel whose configuration has changed counts as working again and is not returned.
        """
        self._moves = {row["destination"]: row["moved_to"] for row in await pool.fetch(SQL["list_moves"])}
        broken = await _list_broken(pool)
        states = self.all()
        if any(name in states and states[name].config_hash != each.config_hash for name, each in broken.items()):
            hashes = [state.config_hash for state in states.values()]
            for row in await pool.fetch(SQL["mend_reconfigured"], list(states), hashes):
                log.info("channel_mended", channel=row["channel"], by="configuration")
                broken.pop(row["channel"], None)
        return broken

    async def announce(self, pool: Pool, broken: Mapping[str, Broken]) -> None:
        """Enqueue a notice for each broken channel without one, through the first of its fallbacks that works."""
        working = self.all().keys() - broken.keys()
        for name, each in broken.items():
            through = self._first_working(name, working) if each.told_through is None else None
            if through is not None:
                await _announce(pool, name, through, each.now)

    def _first_working(self, name: str, working: Collection[str]) -> str | None:
        return next((each for each in self._fallbacks(name) if each in working), None)

    def _state(self, name: str, channel: Channel, config: ChannelConfig) -> ChannelState:
        configured = channel.destination(config)
        moved_to = self._moves.get(configured)
        current = config if moved_to is None else config.moved(moved_to)
        settings = msgspec.json.encode(config, order="deterministic").decode()
        return ChannelState(
            name, channel, current, channel.limits(current), fingerprint(channel.TYPE, settings), configured
        )


async def list_channel_statuses(pool: Pool) -> list[ChannelStatus]:
    """Return the channels that the worker can use, in order of name."""
    return [msgspec.convert(dict(row), ChannelStatus) for row in await pool.fetch(SQL["list_channels"])]


async def break_channel(connection: Connection, state: ChannelState, reason: str) -> None:
    """Store that a channel is broken; its messages wait until it works again."""
    if await connection.fetchval(SQL["break_channel"], state.name, state.config_hash, reason):
        log.warning("channel_broken", channel=state.name, type=state.channel.TYPE, reason=reason)


async def mend_channel(pool: Pool, name: str) -> bool:
    """Store that a channel works, and return whether it was broken."""
    mended = await pool.fetchval(SQL["mend_channel"], name) is not None
    if mended:
        log.info("channel_mended", channel=name, by="test")
    return mended


async def note_move(connection: Connection | Pool, state: ChannelState, moved_to: int) -> None:
    """Store the new id of a chat that has moved, so that all later messages go there."""
    await connection.execute(SQL["upsert_move"], state.configured_destination, moved_to)
    log.info("chat_moved", channel=state.name)


async def compose_notice(connection: Connection, group_key: str) -> Composed | None:
    """Write the notice that a channel is broken; return None if the channel works again."""
    name = group_key.removeprefix(NOTICE_PREFIX)
    row = await connection.fetchrow(SQL["get_channel_state"], name)
    if row is None:
        return None
    text = (
        f"Since {row['broken_since'].astimezone(UTC):%Y-%m-%d %H:%M} UTC: {row['reason']}. Its messages wait. They are "
        f"sent once its settings are corrected, or once a test succeeds: POST /api/v1/channels/{name}/test"
    )
    return Composed(Message(title=f"Channel {name} is broken", text=text, level="error"), ())


async def _announce(pool: Pool, name: str, through: str, now: datetime) -> None:
    async with pool.acquire() as connection, connection.transaction():
        if await connection.fetchval(SQL["note_told_through"], name, through) is not None:
            await enqueue(connection, through, NOTICE_PREFIX + name, now)


async def _list_broken(pool: Pool) -> dict[str, Broken]:
    return {
        row["channel"]: Broken(row["config_hash"], row["broken_since"], row["reason"], row["told_through"], row["now"])
        for row in await pool.fetch(SQL["list_channel_states"])
    }
