"""Stamps on disk: the times at which messages without a time were first received.

A broker delivers an unacknowledged message again, with the same packet id and marked as repeated. By its stamp, it
becomes the same reading. A stamp is kept by packet id until the broker has the acknowledgement; then another message
may get the packet id.
"""

import sqlite3
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import structlog

from app.errors import SettingsError
from app.mqtt.model import MqttMessage

_TABLES = """
CREATE TABLE IF NOT EXISTS stamp (packet_id INTEGER PRIMARY KEY, digest BLOB NOT NULL, at_us INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS subscription (filter TEXT PRIMARY KEY);
"""
log = structlog.get_logger()


class Stamps:
    """The stamps of one client of a broker, in a file; used by one thread at a time."""

    def __init__(self, file: Path) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database = _open(file)
        except (OSError, sqlite3.OperationalError) as error:
            raise SettingsError(
                f"{file}, where the bridge remembers times of receipt, cannot be written: {error}; set DATA_DIR"
            ) from None
        rows = self._database.execute("SELECT packet_id, digest, at_us FROM stamp")
        self._stamps: dict[int, tuple[bytes, int]] = {packet_id: (digest, at_us) for packet_id, digest, at_us in rows}
        self._changed: set[int] = set()

    def __len__(self) -> int:
        return len(self._stamps)

    def stamp(self, message: MqttMessage) -> int:
        """Return the time at which a message was first received, in microseconds since 1970."""
        if message.qos == 0:
            return message.received_us
        digest = blake2b(f"{message.topic}\0".encode() + message.payload, digest_size=16).digest()
        known, at_us = self._stamps.get(message.packet_id, (b"", 0))
        if message.is_repeated and known == digest:
            return at_us
        self._stamps[message.packet_id] = (digest, message.received_us)
        self._changed.add(message.packet_id)
        return message.received_us

    def forget(self, messages: Iterable[MqttMessage]) -> None:
        """Forget the stamps of messages whose acknowledgement the broker has."""
        for message in messages:
            _, at_us = self._stamps.get(message.packet_id, (b"", 0))
            # A message with the same packet id that came later keeps its own.
            if at_us and at_us <= message.received_us:
                del self._stamps[message.packet_id]
                self._changed.add(message.packet_id)

    def save(self) -> None:
        """Write changes to the disk. Call this before readings with new stamps are uploaded."""
        if not self._changed:
            return
        kept = [(packet_id, *self._stamps[packet_id]) for packet_id in self._changed if packet_id in self._stamps]
        gone = [(packet_id,) for packet_id in self._changed if packet_id not in self._stamps]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO stamp VALUES (?, ?, ?)", kept)
            self._database.executemany("DELETE FROM stamp WHERE packet_id = ?", gone)
        self._changed.clear()

    def add_filters(self, filters: Iterable[str]) -> tuple[str, ...]:
        """Store the filters of the present subscriptions; return former filters that are not among them."""
        new = set(filters)
        with self._database:
            old = {text for (text,) in self._database.execute("SELECT filter FROM subscription")}
            self._database.executemany("INSERT OR IGNORE INTO subscription VALUES (?)", [(text,) for text in new])
        return tuple(sorted(old - new))

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _open(file: Path) -> sqlite3.Connection:
    try:
        return _connect(file)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        # Without the file, unacknowledged readings without a time may be stored twice; other readings are not affected.
        broken = file.with_name(f"{file.name}.broken")
        file.replace(broken)
        log.error("mqtt_stamps_broken", file=str(file), moved_to=str(broken), reason=str(error))
        return _connect(file)


def _connect(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, check_same_thread=False)
    try:
        # A write-ahead log with a sync at each commit: nothing is lost when the machine loses its power.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(_TABLES)
    except sqlite3.Error:
        database.close()
        raise
    return database
