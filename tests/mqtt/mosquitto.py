"""Debian's mosquitto as the broker of a test, and its clients."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import project_folder
from tests.ports import free_port

#: Debian has it where only root looks for programs.
_PROGRAM = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")


def is_installed() -> bool:
    """Return whether broker and client are installed."""
    return _PROGRAM is not None and shutil.which("mosquitto_pub") is not None


needs_mosquitto = pytest.mark.skipif(
    not is_installed(), reason="mosquitto and mosquitto-clients are not installed; .ci/run installs them"
)
_CONFIG = """
listener {port} 127.0.0.1
persistence_location {folder}/
{shipped}
{more}
"""
#: The settings that people are told to use.
_SHIPPED = project_folder() / "examples" / "mqtt" / "mosquitto.conf"


class Mosquitto:
    """A broker on a port of its own, whose sessions outlive it."""

    def __init__(self, folder: Path, more: str = "allow_anonymous true", options: tuple[str, ...] = ()) -> None:
        folder.mkdir()
        self.port = free_port()
        #: Of mosquitto_pub, which every message needs.
        self.options = options
        self._folder = folder
        # A broker that root starts would become the user mosquitto, who cannot read the folder.
        user = "user root\n" if os.getuid() == 0 else ""
        config = _CONFIG.format(port=self.port, folder=folder, shipped=_SHIPPED.read_text(), more=more)
        (folder / "mosquitto.conf").write_text(user + config)
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it listens."""
        command = [_PROGRAM or "mosquitto", "-v", "-c", str(self._folder / "mosquitto.conf")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        async with asyncio.timeout(20):
            while True:
                assert self._process.poll() is None, self.log
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    @property
    def log(self) -> str:
        """Return all that it has logged."""
        return (self._folder / "log").read_text()

    def kill(self) -> None:
        """End it by kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def publish(self, topic: str, payload: str | bytes, *options: str) -> None:
        """Publish one message of QoS 1, and wait until the broker has it."""
        await self._publish(payload, "-t", topic, "-s", *options)

    async def publish_lines(self, topic: str, payloads: list[str], *options: str) -> None:
        """Publish a message of QoS 1 for each line, and wait until the broker has all of them."""
        await self._publish("".join(f"{payload}\n" for payload in payloads), "-t", topic, "-l", *options)

    async def _publish(self, given: str | bytes, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *("mosquitto_pub", "-p", str(self.port), "-h", "127.0.0.1", "-q", "1", *self.options, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        given = given.encode() if isinstance(given, str) else given
        async with asyncio.timeout(60):
            _, err = await process.communicate(given)
        assert process.returncode == 0, err.decode()


@asynccontextmanager
async def mosquitto(folder: Path, more: str = "allow_anonymous true", *options: str) -> AsyncIterator[Mosquitto]:
    """Run a broker until the block ends."""
    broker = Mosquitto(folder / "mosquitto", more, options)
    await broker.start()
    try:
        yield broker
    finally:
        broker.kill()
