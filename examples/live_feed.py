#!/usr/bin/env python3
"""A follower of the live feed that misses nothing: it writes every reading and alert to standard output, as JSON lines.

    {"sensor": "cellar", "time": "2026-01-31T08:00:00Z", "values": {"temperature": 12.5}}
    {"alert": "firing", "rule": "temperature-high", "sensor": "cellar", …}

The cursor of the newest frame is kept in a file once its lines are written, so a restart goes on where the last run
ended. After a crash between the two the last frame's lines are written a second time; a reading is known by its sensor
and time.

Needs Python 3.11 or newer and the package `websockets`. The key is taken from API_KEY. It needs the scope live, and
read for what the feed leaves out: frames marked `truncated`, and everything missed before a `resync`.
"""

import argparse
import json
import os
import random
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.sync.client import ClientConnection, connect

Message = dict[str, Any]

#: After these codes coming back cannot help; docs/live-feed.md lists all codes.
FINAL_CODES = {1009, 4400, 4401, 4403}
TOO_SLOW = 4408
TOO_MANY_CONNECTIONS = 4429
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
#: Readings that came this late, by their own time, are still found after a `resync`.
LATE = timedelta(hours=1)
#: A snapshot of a hundred thousand series takes some ten megabytes.
FRAME_BYTES = 64 * 2**20


class Place:
    """How far the feed was followed, in a file: the cursor, and when it was written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.cursor: str | None = None
        self.at: datetime | None = None
        with suppress(FileNotFoundError):
            stored = json.loads(path.read_text())
            self.cursor, self.at = stored["cursor"], datetime.fromisoformat(stored["at"])

    def move(self, cursor: str) -> None:
        """Keep a cursor; the file is replaced in one step, so that a crash leaves the old or the new one."""
        self.cursor, self.at = cursor, datetime.now(UTC)
        beside = self._path.with_name(f"{self._path.name}.new")
        beside.write_text(json.dumps({"cursor": cursor, "at": self.at.isoformat()}))
        beside.replace(self._path)


class Follower:
    """Follows the feed from the place of the last run."""

    def __init__(self, url: str, key: str, sensors: list[str], metrics: list[str], place: Place) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._sensors = sensors
        self._metrics = metrics
        self._place = place
        self._failures = 0
        self._must_start_over = False

    def run(self) -> str:
        """Follow for ever; return why the server will not have this client again."""
        while True:
            try:
                with connect(f"ws{self._url.removeprefix('http')}/ws/live", max_size=FRAME_BYTES) as connection:
                    self._follow(connection)
            except ConnectionClosed as closed:
                code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "the connection broke")
                if code in FINAL_CODES:
                    return f"{code} {reason}"
                if code == TOO_SLOW:
                    say("too slow: resuming at once from the newest frame that arrived")
                    continue
                self._pause(f"{code} {reason}", 10.0 if code == TOO_MANY_CONNECTIONS else FIRST_PAUSE_S)
            except (OSError, InvalidHandshake, InvalidMessage) as error:
                self._pause(str(error), FIRST_PAUSE_S)

    def _follow(self, connection: ClientConnection) -> None:
        wanted = {"sensors": self._sensors, "metrics": self._metrics, "mode": "all", "alerts": True}
        resume = {} if self._place.cursor is None else {"resume": self._place.cursor}
        connection.send(json.dumps({"type": "auth", "key": self._key}))
        connection.send(json.dumps({"type": "subscribe", **wanted, **resume}))
        while True:
            self._take(json.loads(connection.recv()))
            self._failures = 0

    def _take(self, frame: Message) -> None:
        """Write what a frame holds, then move on to its cursor."""
        match frame["type"]:
            case "snapshot":
                write(*frame["readings"])
                if self._must_start_over:
                    self._write_missed()
            case "readings":
                write(*frame["readings"])
                if "truncated" in frame:
                    self._write_omitted(frame)
            case "alert":
                write({"alert": frame.pop("transition"), **frame})
            case "resync":  # a snapshot follows, from which on nothing is missed again
                self._must_start_over = True
            case "error":  # a message of ours could not be understood
                say(frame["message"])
        if "cursor" in frame:
            self._place.move(frame["cursor"])

    def _write_omitted(self, frame: Message) -> None:
        """Read what a bulk replay left out; readings in its range that came before are written again."""
        written = {(reading["sensor"], reading["time"]) for reading in frame["readings"]}
        first, last = (datetime.fromisoformat(frame["truncated"][name]) for name in ("from", "to"))
        for reading in self._stored(first, last + timedelta(microseconds=1)):  # the range of the API excludes its end
            if (reading["sensor"], reading["time"]) not in written:
                write(reading)

    def _write_missed(self) -> None:
        """Read what came since the last frame; the snapshot has the latest values only."""
        if self._place.at is not None:
            say("the cursor is too old: reading what was missed from the database")
            for reading in self._stored(self._place.at - LATE, datetime.now(UTC) + timedelta(minutes=10)):
                write(reading)
        self._must_start_over = False

    def _stored(self, start: datetime, end: datetime) -> Iterator[Message]:
        """Read stored readings of a range page by page; what this client does not follow is left out."""
        cursor: dict[str, str] = {}
        while True:
            query = {"from": start.isoformat(), "to": end.isoformat(), "limit": 10_000, **cursor}
            page = self._get(f"/api/v1/readings?{urllib.parse.urlencode(query)}")
            for reading in page["items"]:
                values = {name: value for name, value in reading["values"].items() if matches(name, self._metrics)}
                if values and matches(reading["sensor"], self._sensors):
                    yield {**reading, "values": values}
            if page["next"] is None:
                return
            cursor = {"cursor": page["next"]}

    def _get(self, path: str) -> Message:
        request = urllib.request.Request(f"{self._url}{path}", headers={"X-API-Key": self._key})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            answer: Message = json.load(response)
            return answer

    def _pause(self, reason: str, shortest_s: float) -> None:
        """Wait longer after each failure, and a part of it by chance, so that clients do not all return at once."""
        pause_s = min(shortest_s * 2.0**self._failures, LONGEST_PAUSE_S) * random.uniform(0.7, 1.0)  # noqa: S311
        self._failures = min(self._failures + 1, 10)
        say(f"{reason}; next try in {pause_s:.0f} s")
        time.sleep(pause_s)


def matches(name: str, patterns: list[str]) -> bool:
    """Return whether a name fits one of the patterns, as the server reads them: `[` stands for itself."""
    return any(fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns)


def write(*lines: Message) -> None:
    """Write JSON lines, and hand them on at once."""
    sys.stdout.write("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))
    sys.stdout.flush()


def say(text: str) -> None:
    """Write a line for people."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> None:
    """Follow the feed until the server refuses it for good, or until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Write new readings and alerts to standard output, as JSON lines.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (%(default)s)")
    parser.add_argument("--sensors", nargs="+", default=["*"], help="patterns with * and ? (all)")
    parser.add_argument("--metrics", nargs="+", default=["*"], help="patterns with * and ? (all)")
    parser.add_argument("--place", type=Path, default=Path("live_feed.json"), help="where to go on (%(default)s)")
    options = parser.parse_args()
    key = os.environ.get("API_KEY") or sys.exit("Set API_KEY to a key with the scopes live and read.")
    follower = Follower(options.url, key, options.sensors, options.metrics, Place(options.place))
    with suppress(KeyboardInterrupt):
        sys.exit(f"The server refuses this client: {follower.run()}")


if __name__ == "__main__":
    main()
