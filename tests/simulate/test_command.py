"""`tidegauge simulate`, run in a separate process."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import click
import msgspec
import pytest

from app.commands.console import duration
from tests.conftest import project_folder, wait_until
from tests.simulate.scripted import ScriptedServer


async def start(folder: Path, *arguments: str, **variables: str) -> Process:
    environ = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    environ |= {"PYTHONPATH": str(project_folder()), **variables}
    command = (sys.executable, "-m", "app", "simulate", *arguments)
    return await asyncio.create_subprocess_exec(*command, cwd=folder, env=environ, stdout=PIPE, stderr=PIPE)


async def finish(process: Process) -> tuple[int, str, str]:
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def test_command_prints_the_summary_as_json_when_the_option_is_given(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        options = ("--url", server.url, "--key", "k", "--gateways", "1", "--sensors", "1", "--history", "1h")
        process = await start(tmp_path, *options, "--for", "1s", "--speed", "60", "--every", "10s", "--json")
        code, output, _ = await finish(process)
    assert code == 0
    summary = msgspec.json.decode(output)
    assert summary["total"]["made"] == summary["total"]["accepted"] == 366
    assert [gateway["gateway"] for gateway in summary["gateways"]] == ["gw-harbour"]


async def test_command_sends_buffered_readings_when_it_is_interrupted(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        (tmp_path / ".data").mkdir()
        (tmp_path / ".data" / "development_keys.json").write_bytes(b'{"api_key": "tg_made_up", "api_key_ws": ""}')
        process = await start(tmp_path, "--url", server.url, "--gateways", "1", "--history", "1m", "--batch", "1h")
        await wait_until(lambda: bool(server.requests), timeout_s=60)
        process.send_signal(signal.SIGINT)
        code, output, errors = await finish(process)
    assert code == 0, errors
    assert server.requests[0].headers["X-API-Key"] == "tg_made_up"
    made = sum(len(reading["values"]) for request in server.requests for reading in request.readings)
    assert f"gw-harbour {made}" in " ".join(output.split())


async def test_command_exits_with_1_when_a_second_signal_makes_it_drop_readings(tmp_path: Path) -> None:
    async with ScriptedServer() as server:
        process = await start(tmp_path, "--url", server.url, "--key", "k", "--history", "1m", "--every", "10ms")
        await wait_until(lambda: bool(server.requests), timeout_s=60)
    # Two different signals, because two equal ones may be delivered as one.
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    code, output, errors = await finish(process)
    assert code == 1, errors
    assert "gw-harbour" in output


async def test_command_is_refused_when_there_is_no_key(tmp_path: Path) -> None:
    code, _, errors = await finish(await start(tmp_path, COLUMNS="200"))
    assert code == 1
    assert errors == "Wrong setting: No API key: give --key or set API_KEY to a key with the scope ingest\n"


def test_duration_option_is_refused_when_it_has_no_unit() -> None:
    with pytest.raises(click.BadParameter, match='"5" is not a duration, its unit is missing'):
        duration("5")
    assert duration("1h30m") == 5_400_000_000
