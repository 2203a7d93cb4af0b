"""The reverse proxies of docs/operators.md, where their programs are installed, before a real server."""

import asyncio
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest
from websockets.asyncio.client import connect

from tests.conftest import API_KEY, API_KEY_WS, YESTERDAY_AT_8_MS, Server
from tests.docs.documents import blocks
from tests.live.clients import batch
from tests.ports import free_port

NGINX = """
daemon off;
pid PLACE/nginx.pid;
error_log PLACE/error.log;
events {}
http {
access_log PLACE/access.log;
client_body_temp_path PLACE/body;
proxy_temp_path PLACE/proxy;
fastcgi_temp_path PLACE/fastcgi;
uwsgi_temp_path PLACE/uwsgi;
scgi_temp_path PLACE/scgi;
"""


def installed(program: str) -> str:
    """Return the path of a program, or skip the test."""
    path = shutil.which(program, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin") or shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed, so its configuration was not tried")
    return path


def configuration(language: str, server: Server) -> str:
    """Return the document's configuration, led to the test's server."""
    (block,) = [block for block in blocks("docs/operators.md") if block.language == language]
    return block.text.replace("127.0.0.1:8000", urlsplit(server.address).netloc)


@asynccontextmanager
async def running(folder: Path, *command: str) -> AsyncIterator[None]:
    """Run a proxy until the block ends."""
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={"HOME": str(folder)})
    try:
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 10)


def insecure() -> ssl.SSLContext:
    """Take any certificate: it is the test's own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def check(url: str, tls: ssl.SSLContext | None, hidden: Sequence[str]) -> None:
    """Upload more than a megabyte, follow the feed, and look for what is to be kept inside."""
    async with aiohttp.ClientSession(headers={"X-API-Key": API_KEY}) as http:
        async with asyncio.timeout(15):
            while True:
                with suppress(aiohttp.ClientError):
                    answer = await http.get(f"{url}/health/live", ssl=tls or True)
                    assert answer.status == 200
                    break
                await asyncio.sleep(0.05)
        body = msgspec.json.encode(batch("tank", [0.5] * 30_000, YESTERDAY_AT_8_MS))
        answer = await http.post(f"{url}/api/v1/readings", data=BytesIO(body), ssl=tls or True)
        assert (await answer.json())["accepted"] == 30_000
        for path in hidden:
            assert (await http.get(f"{url}{path}", ssl=tls or True)).status == 404, path
        record = {"temperature": 1, "humidity": 2, "pressure": 3, "sensor_id": "old"}
        answer = await http.post(f"{url}/api/temperature_reading", json=record, ssl=tls or True)
        assert (await answer.json())["client_ip"] == "127.0.0.1"
    headers = {"X-API-Key": API_KEY_WS}
    address = f"ws{url.removeprefix('http')}"
    async with connect(f"{address}/ws/live", ssl=tls, additional_headers=headers, max_size=None) as feed:
        await feed.send(json.dumps({"type": "subscribe", "sensors": ["old"]}))
        assert json.loads(await feed.recv())["type"] == "snapshot"
    async with connect(f"{address}/ws/sensor_updates?api-key={API_KEY_WS}", ssl=tls) as feed:
        assert json.loads(await feed.recv())["sensor_id"] == "old"


async def test_nginx_passes_uploads_and_the_feed_on(server: Server, tmp_path: Path) -> None:
    nginx, port = installed("nginx"), free_port()
    certificate = ["-keyout", "key.pem", "-out", "certificate.pem", "-subj", "/CN=tidegauge.example"]
    making = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *certificate]
    subprocess.run(making, cwd=tmp_path, check=True, capture_output=True)
    own = configuration("nginx", server)
    own = own.replace("/etc/ssl/tidegauge.pem", f"{tmp_path}/certificate.pem")
    own = own.replace("/etc/ssl/tidegauge.key", f"{tmp_path}/key.pem").replace("listen 443", f"listen 127.0.0.1:{port}")
    # Its workers would not be allowed into the folder of root's test.
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(f"{user}{NGINX.replace('PLACE', str(tmp_path))}{own}}}\n")
    async with running(tmp_path, nginx, "-c", f"{tmp_path}/nginx.conf", "-e", f"{tmp_path}/error.log"):
        hidden = ("/metrics", "/health/ready", "/schema", "/schema/openapi.json")
        await check(f"https://127.0.0.1:{port}", insecure(), hidden)
    assert API_KEY_WS not in (tmp_path / "access.log").read_text()


async def test_caddy_passes_uploads_and_the_feed_on(server: Server, tmp_path: Path) -> None:
    caddy, port = installed("caddy"), free_port()
    own = configuration("caddyfile", server).replace("tidegauge.example", f"http://127.0.0.1:{port}")
    (tmp_path / "Caddyfile").write_text(f"{{\n    admin off\n}}\n{own}")
    async with running(tmp_path, caddy, "run", "--config", "Caddyfile"):
        hidden = ("/metrics", "/health/ready", "/schema", "/schema/openapi.json")
        await check(f"http://127.0.0.1:{port}", None, hidden)
