import asyncio
import re
from urllib.parse import urlsplit

import msgspec

from tests.conftest import Server, project_folder

FOLDER = project_folder() / "app/web/static"
POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
STRANGE_PATHS = [
    "/static/../routes.py",
    "/static/%2e%2e%2froutes.py",
    "/static/..%2f..%2fsettings.py",
    "/static/%2e%2e",
    "/static/%2fetc%2fpasswd",
    "/static/page.html%00.css",
    "/static/" + "a" * 5_000 + ".css",
    "/static/",
    "/static/nothing.js",
]


async def test_page_is_served_with_its_policy_when_asked_without_key(server: Server) -> None:
    async with server.http.get("/", headers={"X-API-Key": ""}) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert response.headers["Content-Security-Policy"] == POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert response.headers["Cache-Control"] == "no-cache"
        assert "<title>Tidegauge</title>" in await response.text()


async def test_static_file_has_its_type_when_asked(server: Server) -> None:
    types = {
        "style/base.css": "text/css; charset=utf-8",
        "page.js": "text/javascript; charset=utf-8",
        "icon.svg": "image/svg+xml",
    }
    for name, media_type in types.items():
        async with server.http.get(f"/static/{name}") as response:
            assert response.status == 200
            assert response.headers["Content-Type"] == media_type
            assert response.headers["Content-Security-Policy"] == POLICY
            assert await response.read() == (FOLDER / name).read_bytes()


async def test_page_finds_everything_that_it_refers_to(server: Server) -> None:
    referred = set(re.findall(r'"static/([^"]+)"', (FOLDER / "page.html").read_text()))
    for script in FOLDER.rglob("*.js"):
        imported = re.findall(r'from "(\.[^"]+)"', script.read_text())
        referred |= {(script.parent / name).resolve().relative_to(FOLDER).as_posix() for name in imported}
    assert {"page.js", "style/base.css", "icon.svg", "live/feed.js", "sensors/row.js"} <= referred
    for name in referred:
        async with server.http.get(f"/static/{name}") as response:
            assert response.status == 200, name


async def test_file_is_not_sent_again_when_browser_has_it(server: Server) -> None:
    async with server.http.get("/") as response:
        tag = response.headers["ETag"]
    for sent in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        async with server.http.get("/", headers={"If-None-Match": sent}) as response:
            assert response.status == 304, sent
            assert response.headers["ETag"] == tag
            assert await response.read() == b""


async def test_file_is_sent_when_browser_has_another_version(server: Server) -> None:
    async with server.http.get("/static/style/base.css", headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200
        assert await response.read() != b""


async def test_head_returns_the_length_without_a_body(server: Server) -> None:
    async with server.http.get("/") as response:
        length = len(await response.read())
    async with server.http.head("/") as response:
        assert response.status == 200
        assert response.headers["Content-Length"] == str(length)
        assert "Date" in response.headers
        assert await response.read() == b""


async def test_path_is_not_found_when_it_names_no_file_of_the_page(server: Server) -> None:
    for path in STRANGE_PATHS:
        head, body = await _get_as_written(server, path)
        assert head.startswith("HTTP/1.1 404 "), path
        assert "content-type: application/problem+json" in head
        problem = msgspec.json.decode(body)
        assert (problem["type"], problem["status"]) == ("/problems/not_found", 404)


async def _get_as_written(server: Server, path: str) -> tuple[str, bytes]:
    """Get a path without the normalisation that a usual client applies; return the head and the body of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(server.address).port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: page\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head.decode(), body
