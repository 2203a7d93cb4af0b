#!/usr/bin/env python3
"""A gateway that loses nothing: readings go into a buffer on disk first, and leave it once the server has them.

It reads one reading a line from standard input, as JSON:

    {"sensor": "cellar", "values": {"temperature": 12.5}, "tags": {"room": "cold"}}

A reading without a time gets the time at which its line is read. Each is committed to the buffer, an SQLite file,
before the next line is read; another thread sends what the buffer holds, in batches, oldest first. The process may be
killed at any moment: a restart goes on with the same file. The server may be away for as long as the disk has room.

The server counts a reading that it has already as a duplicate, so sending a batch twice is harmless. That is why a
reading keeps its time from the buffer on.

Python 3.9 or newer, standard library only.
"""

from __future__ import annotations

import argparse
import email.message
import gzip
import http.client
import json
import os
import random
import sqlite3
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

Reading = dict[str, Any]
Batch = list[tuple[int, Reading]]

#: The server may hold a request for up to a minute before it answers 503.
TIMEOUT_S = 75
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
#: Between tries when the key or the address is wrong: only a person can help.
CONFIGURATION_PAUSE_S = 60.0
#: The server lists this many refusals of one upload at most.
REFUSALS_LISTED = 100

SCHEMA = """
CREATE TABLE IF NOT EXISTS reading (
    id integer PRIMARY KEY AUTOINCREMENT,
    body text NOT NULL,
    -- Why the server does not take it; it is kept for a person to look at, and not sent again.
    refused text
);
CREATE INDEX IF NOT EXISTS reading_to_send ON reading (id) WHERE refused IS NULL;
"""


class Buffer:
    """The readings that the server does not have yet; each thread opens a connection of its own."""

    def __init__(self, path: str, limit: int) -> None:
        self._connection = sqlite3.connect(path, timeout=30)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # A commit survives a power cut, at the price of one wait for the disk.
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.executescript(SCHEMA)
        self._limit = limit

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def add(self, reading: Reading) -> int:
        """Commit one reading; the oldest beyond the limit are dropped, and their number is returned."""
        with self._connection as transaction:
            added = transaction.execute("INSERT INTO reading (body) VALUES (?)", [json.dumps(reading)])
            last_id = added.lastrowid or 0
            return transaction.execute("DELETE FROM reading WHERE id <= ?", [last_id - self._limit]).rowcount

    def oldest(self, count: int) -> Batch:
        """Return up to `count` readings to send as (id, reading), oldest first."""
        rows = self._connection.execute(
            "SELECT id, body FROM reading WHERE refused IS NULL ORDER BY id LIMIT ?", [count]
        )
        return [(row_id, json.loads(body)) for row_id, body in rows]

    def settle(self, batch: Batch, refused: Mapping[int, str]) -> None:
        """Drop a batch that was answered, but keep the refused readings: a text for each id."""
        with self._connection as transaction:
            taken = [[row_id] for row_id, _ in batch if row_id not in refused]
            transaction.executemany("DELETE FROM reading WHERE id = ?", taken)
            texts = [[text, row_id] for row_id, text in refused.items()]
            transaction.executemany("UPDATE reading SET refused = ? WHERE id = ?", texts)

    def send_refused_again(self) -> None:
        """Let refused readings be sent once more, after whatever was wrong has been corrected."""
        with self._connection as transaction:
            transaction.execute("UPDATE reading SET refused = NULL WHERE refused IS NOT NULL")


class Uploader:
    """Sends what is in the buffer, and reads every answer as docs/gateways.md says."""

    def __init__(self, buffer: Buffer, url: str, key: str, gateway: str, batch_size: int) -> None:
        self._buffer = buffer
        self._url = url.rstrip("/") + "/api/v1/readings"
        self._key = key
        self._gateway = gateway
        self._largest_batch = self._batch_size = batch_size
        self._failures = 0

    def send_next(self) -> float | None:
        """Send one batch. Return how many seconds to wait before the next, or None when the buffer is empty."""
        batch = self._buffer.oldest(self._batch_size)
        if not batch:
            return None
        try:
            status, headers, answer = self._post([reading for _, reading in batch])
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
            # No connection, no answer in time, or not the answer of this server.
            return self._pause(f"no answer: {error}")
        if status == 200:
            return self._note_stored(batch, answer)
        if status in (400, 413, 422):
            return self._split(batch, status, answer)
        if status in (408, 429) or status >= 500:
            return self._pause(f"the server answered {status}", headers.get("Retry-After"))
        say(f"the server answered {status}: {answer}; check --url and the key, the readings are kept")
        return CONFIGURATION_PAUSE_S

    def _post(self, readings: list[Reading]) -> tuple[int, email.message.Message, Any]:
        """Return status, headers and answer; raise what `send_next` catches when there is no such thing."""
        body = json.dumps({"gateway": self._gateway, "readings": readings}).encode()
        headers = {"X-API-Key": self._key, "Content-Type": "application/json", "Content-Encoding": "gzip"}
        request = urllib.request.Request(self._url, gzip.compress(body), headers)  # noqa: S310
        try:
            with _opener.open(request, timeout=TIMEOUT_S) as response:
                answer = json.load(response)
                return response.status, response.headers, {name: answer[name] for name in ("accepted", "rejected")}
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read(500).decode(errors="replace")

    def _note_stored(self, batch: Batch, answer: Mapping[str, Any]) -> float:
        """Take what was stored out of the buffer, and set aside what was refused."""
        if len(answer["rejected"]) >= REFUSALS_LISTED and len(batch) > 1:
            # There may be more. A smaller batch has all of its refusals listed; what is stored counts as a duplicate.
            self._batch_size = len(batch) // 2
            return 0
        refused = {}
        for rejection in answer["rejected"]:
            refused[batch[rejection["index"]][0]] = f"{rejection['code']}: {rejection['message']}"
            say(f"refused: {rejection['message']}")
        self._buffer.settle(batch, refused)
        self._failures = 0
        self._batch_size = min(self._largest_batch, self._batch_size * 2)
        return 0

    def _split(self, batch: Batch, status: int, answer: str) -> float:
        """Send less at a time until the one reading that cannot be sent is found; set that one aside."""
        if len(batch) > 1:
            self._batch_size = len(batch) // 2
        else:
            say(f"refused: {answer}")
            self._buffer.settle(batch, {batch[0][0]: f"{status}: {answer}"})
        return 0

    def _pause(self, reason: str, retry_after: str | None = None) -> float:
        """Double the pause with each failure, up to a minute; never come back before Retry-After."""
        pause_s: float = min(FIRST_PAUSE_S * 2.0**self._failures, LONGEST_PAUSE_S)
        pause_s *= random.uniform(0.5, 1.0)  # noqa: S311 -- so that many gateways do not come back at once
        self._failures = min(self._failures + 1, 10)
        if retry_after is not None and retry_after.isdigit():
            pause_s = max(pause_s, min(int(retry_after), LONGEST_PAUSE_S))
        say(f"{reason}; the readings are kept, next try in {pause_s:.0f} s")
        return pause_s


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Reports a redirect as an error: urllib would follow it with a GET, and the readings would not arrive."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


_opener = urllib.request.build_opener(_NoRedirect)


class Clock:
    """Times of readings, each used once: two of one sensor at one time would count as one."""

    def __init__(self) -> None:
        self._last_us = 0

    def now(self) -> str:
        """Return the time as RFC 3339 in UTC."""
        us = time.time_ns() // 1_000
        if 0 <= self._last_us - us < 1_000_000:  # a coarse clock; one that was set back is believed
            us = self._last_us + 1
        self._last_us = us
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(us // 1_000_000)) + f".{us % 1_000_000:06}Z"


def main() -> None:
    """Read, buffer and send until the input ends and the buffer is empty."""
    options = parse_options()
    key = os.environ.get("API_KEY") or sys.exit("Set API_KEY to a key with the scope ingest.")
    with closing(Buffer(options.buffer, options.limit)) as buffer:
        if options.refused_again:
            buffer.send_refused_again()
        arrived, ended = threading.Event(), threading.Event()
        threading.excepthook = end_process
        sender = threading.Thread(target=send_all, args=(options, key, arrived, ended), daemon=True)
        sender.start()
        try:
            take_in(sys.stdin, buffer, arrived)
            ended.set()
            arrived.set()
            sender.join()
        except KeyboardInterrupt:
            say("stopped; what was not sent is in the buffer")


def take_in(lines: Iterable[str], buffer: Buffer, arrived: threading.Event) -> None:
    """Commit each line's reading to the buffer."""
    clock = Clock()
    for line in lines:
        try:
            reading = json.loads(line)
            if reading.get("time") is None:
                reading["time"] = clock.now()
        except (ValueError, AttributeError):
            say(f"not a reading: {line.strip()[:100]}")
            continue
        dropped = buffer.add(reading)
        if dropped:
            say(f"the buffer is full: {dropped} of the oldest readings dropped")
        arrived.set()


def send_all(options: argparse.Namespace, key: str, arrived: threading.Event, ended: threading.Event) -> None:
    """Send whenever there is something, until the input has ended and the buffer is empty."""
    with closing(Buffer(options.buffer, options.limit)) as buffer:
        uploader = Uploader(buffer, options.url, key, options.gateway, options.batch)
        while True:
            arrived.clear()
            was_last = ended.is_set()
            pause_s = uploader.send_next()
            if pause_s is not None:
                time.sleep(pause_s)
            elif was_last:
                return
            else:
                arrived.wait()
                ended.wait(options.every)  # so that a batch is more than one reading


def end_process(failure: threading.ExceptHookArgs) -> None:
    """End the whole process when sending fails in a way that is not foreseen; a restart goes on with the buffer."""
    traceback.print_exception(failure.exc_type, failure.exc_value, failure.exc_traceback)
    os._exit(1)


def say(text: str) -> None:
    """Write a line for people."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Send readings from standard input, one JSON object a line. The key is taken from API_KEY."
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (%(default)s)")
    parser.add_argument("--gateway", default="example-gateway", help="this gateway's name (%(default)s)")
    parser.add_argument("--buffer", default="gateway.db", help="the buffer's file (%(default)s)")
    parser.add_argument("--limit", type=int, default=1_000_000, help="readings to keep at most (%(default)s)")
    parser.add_argument("--batch", type=int, default=1_000, help="readings in one upload (%(default)s)")
    parser.add_argument("--every", type=float, default=1.0, help="seconds to collect a batch (%(default)s)")
    parser.add_argument("--refused-again", action="store_true", help="first send refused readings once more")
    options = parser.parse_args()
    if not (0 < len(options.gateway) <= 200 and options.gateway.isprintable()):
        parser.error("--gateway must be 1 to 200 printable characters")
    return options


if __name__ == "__main__":
    main()
